import math

import numpy as np
import pytest
from scipy import stats

from acon_mm.analysis.transfer_statistics import mean_and_deviation, paired_difference
from acon_mm.errors import UserError


def by_seed(values):
    return dict(enumerate(values))


@pytest.mark.parametrize('count', [2, 3, 7])
@pytest.mark.parametrize('confidence', [0.8, 0.95])
def test_the_interval_is_that_of_scipys_paired_t_test(count, confidence):
    values, baseline = np.random.default_rng(count).normal(50, 2, (2, count))
    found = paired_difference(by_seed(values), by_seed(baseline), confidence)
    expected = stats.ttest_rel(values, baseline).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.mean == pytest.approx(np.mean(values - baseline), rel=1e-12)
    assert found.pairs == count


def test_of_two_pairs_the_half_width_is_the_cauchy_quantile_times_half_their_distance():
    """With one degree of freedom Student's t is Cauchy's: its quantile is tan(pi * (q - 1/2))."""
    found = paired_difference({0: 3.0, 1: 8.0}, {0: 2.0, 1: 4.0})
    assert found.mean == 2.5
    assert found.half == pytest.approx(math.tan(0.475 * math.pi) * 1.5, rel=1e-9)


def test_what_a_seed_adds_to_both_rows_does_not_widen_the_interval():
    differences = [0.5, 0.7, 0.9]
    shifts = [-30.0, 0.0, 40.0]
    baseline = [50 + shift for shift in shifts]
    values = [b + d for b, d in zip(baseline, differences, strict=True)]
    found = paired_difference(by_seed(values), by_seed(baseline))
    plain = paired_difference(by_seed(differences), by_seed([0, 0, 0]))
    assert found.half == pytest.approx(plain.half)
    assert found.half < 1


def test_only_seeds_of_both_rows_are_compared():
    found = paired_difference({0: 1.0, 1: 2.0, 5: 100.0}, {1: 0.0, 0: 0.0, 7: -100.0})
    assert (found.mean, found.pairs) == (1.5, 2)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_a_single_pair_has_a_difference_and_no_interval():
    found = paired_difference({3: 2.0}, {3: 1.5})
    assert (found.mean, found.half, found.low, found.high) == (0.5, None, None, None)


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.normal(1.0, 3.0, (2000, 3))
    found = [paired_difference(by_seed(row), by_seed([0, 0, 0]), 0.9) for row in draws]
    share = np.mean([one.low <= 1.0 <= one.high for one in found])
    assert share == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / 2000))


def test_the_deviation_is_that_of_a_sample():
    mean, deviation = mean_and_deviation([1.0, 2.0, 6.0])
    assert mean == 3
    assert deviation == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert mean_and_deviation([4.0]) == (4.0, None)


@pytest.mark.parametrize('confidence', [0, 1, 95])
def test_a_confidence_outside_0_and_1_is_refused(confidence):
    with pytest.raises(UserError, match=f'between 0 and 1, as 0.95 does; got {confidence}'):
        paired_difference({0: 1.0}, {0: 1.0}, confidence)
