"""The tables say what the tests measured, and compare rows by their seeds."""

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from report import format_report, main, paired_difference

FOUND = {
    'classify': {'relu': {0: 20.0, 1: 21.0, 2: 19.0}, 'acon': {0: 18.0, 1: 19.25, 2: 16.75}},
    'detect': {'relu': {0: 50.0, 1: 52.0}, 'acon': {1: 53.0, 2: 54.0}},
}


@pytest.fixture
def grid(make_grid, monkeypatch):
    """A grid of three seeds, some of whose detectors have not been tested."""
    grid = make_grid(seeds=[0, 1, 2], prepare=None)

    def result(kind, row, seed, task):
        value = FOUND[task][row].get(seed)
        metrics = {'Top 1 Error': value, 'box AP': value}
        found = {'metrics': metrics, 'seconds': 90, 'resumed': seed == 1, 'commit': 'abc'}
        return found if value else None

    monkeypatch.setattr(grid, 'result', result)
    return grid


def cells(text, title):
    """Return the cells of the table below a title."""
    lines = text.partition(f'{title}\n\n')[2].partition('\n\n')[0].splitlines()
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


@pytest.mark.parametrize('count', [2, 3, 7])
def test_the_interval_is_that_of_scipys_paired_t_test(count):
    values, baseline = np.random.default_rng(count).normal(50, 2, (2, count))
    found = paired_difference(pd.Series(values), pd.Series(baseline))
    expected = stats.ttest_rel(values, baseline).confidence_interval(0.95)
    assert (found['low'], found['high']) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found['mean'] == pytest.approx(np.mean(values - baseline), rel=1e-12)


def test_of_two_pairs_the_half_width_is_the_cauchy_quantile_times_half_their_distance():
    """With one degree of freedom Student's t is Cauchy's: its quantile is tan(pi * (q - 1/2))."""
    found = paired_difference(pd.Series([3.0, 8.0]), pd.Series([2.0, 4.0]))
    assert found['mean'] == 2.5
    half = math.tan(0.475 * math.pi) * 1.5
    assert (found['low'], found['high']) == pytest.approx((2.5 - half, 2.5 + half), rel=1e-9)


def test_only_seeds_of_both_rows_are_compared_and_one_pair_has_no_interval():
    found = paired_difference(pd.Series({0: 1.0, 1: 2.0, 5: 9.0}), pd.Series({1: 0.5, 7: -9.0}))
    assert found == {'mean': 1.5, 'low': None, 'high': None, 'pairs': 1}
    assert paired_difference(pd.Series({0: 1.0}), pd.Series({1: 1.0})) is None


def test_equal_differences_have_an_interval_of_no_width():
    found = paired_difference(pd.Series([1.5, 2.5, 3.5]), pd.Series([1.0, 2.0, 3.0]))
    assert (found['low'], found['high']) == (0.5, 0.5)


def test_a_row_shows_mean_deviation_difference_and_interval_of_its_seeds(grid):
    header, _, relu, acon = cells(format_report(grid), 'classify')
    assert header[:5] == ['Top 1 Error', 'seed 0', 'seed 1', 'seed 2', 'mean ± sd']
    assert relu == ['relu', '20.00', '21.00', '19.00', '20.00 ± 1.00', '–', '–']
    expected = stats.ttest_1samp([-2.0, -1.75, -2.25], 0).confidence_interval(0.95)
    interval = f'{expected.low:+.2f} to {expected.high:+.2f}*'  # it does not hold 0
    assert acon == ['ACON', '18.00', '19.25', '16.75', '18.00 ± 1.25', '-2.00', interval]


def test_an_unfinished_grid_compares_the_seeds_that_both_rows_have(grid):
    text = format_report(grid)
    _, _, relu, acon = cells(text, 'detect')
    assert relu == ['relu', '50.00', '52.00', '–', '51.00 ± 1.41', '–', '–']
    assert acon == ['ACON', '–', '53.00', '54.00', '53.50 ± 0.71', '+1.00', '–']
    assert '20 of 24 steps are finished; they took 30 min, without what 8 of them took' in text
    assert text.endswith('Commits: abc (20 steps).')


def test_json_holds_the_same_figures(grid):
    relu, acon = json.loads(format_report(grid, 'json'))['classify']
    assert (relu['row'], acon['metrics']['Top 1 Error']['1']) == ('relu', 19.25)
    assert acon['differences']['relu']['mean'] == -2
    assert acon['differences']['relu']['pairs'] == 3


def test_any_rows_can_be_the_baselines(grid):
    grid.baselines = ['relu', 'acon']
    header, _, relu, acon = cells(format_report(grid), 'classify')
    assert (header[5], header[7]) == ('− relu', '− ACON')
    assert (relu[5], relu[7], acon[5], acon[7]) == ('–', '+2.00', '-2.00', '–')


def test_the_command_writes_between_the_marks_of_a_file(project, monkeypatch, capsys):
    report = project / 'report.md'
    report.write_text('# Before\n\n<!-- mine -->\nold\n<!-- end of mine -->\nafter\n')
    options = ['--config', 'rows=[acon]', 'seeds=[4]', '--out', 'report.md', '--mark', 'mine']
    monkeypatch.setattr(sys, 'argv', ['report.py', 'grid.yaml', *options])
    main()
    text = report.read_text()
    assert text.startswith('# Before\n\n<!-- mine -->\n')
    assert text.endswith('<!-- end of mine -->\nafter\n')
    assert 'old' not in text
    assert cells(text, '**classify**')[2][:2] == ['ACON', '–']
    assert '0 of 4 steps are finished.' in text
    monkeypatch.setattr(sys, 'argv', ['report.py', 'grid.yaml', *options[:-1], 'other'])
    with pytest.raises(SystemExit):
        main()
    assert 'must be in the text once each' in capsys.readouterr().err
    assert report.read_text() == text
