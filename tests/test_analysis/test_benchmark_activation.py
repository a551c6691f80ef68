import pytest
import torch
from torch import nn

from acon_mm.analysis import benchmark_activation
from acon_mm.analysis.benchmark_activation import (
    COPY,
    PHASES,
    Case,
    CaseResult,
    Feed,
    RowTask,
    all_cases,
    measure_case,
)
from acon_mm.analysis.benchmark_rows import ROWS, Row
from acon_mm.analysis.benchmark_timing import Plan, Spread
from acon_mm.models import AconC

CASE = Case((2, 8, 6, 4), 'fp32', 'nchw')
EAGER = [name for name in ROWS if name != 'compiled']


class CountingClock:
    """A clock that advances by one second with each look at it."""

    moment = 0

    def stamp(self):
        self.moment += 1
        return self.moment

    def seconds(self, start, end):
        return end - start


def spread(seconds):
    return Spread(seconds, seconds, seconds, 1)


def result(**seconds):
    times = {
        row: dict(zip(PHASES, map(spread, values), strict=True)) for row, values in seconds.items()
    }
    kept = dict.fromkeys(seconds, 3 * CASE.nbytes)
    return CaseResult(CASE, times, spread(0.25), kept, {})


def test_ratios_bandwidths_and_kept_maps_are_those_of_the_closed_form():
    found = result(silu=(1, 2, 4, 6), metaacon=(2, 6, 1, 7))
    n = 4 * 2 * 8 * 6 * 4
    assert CASE.nbytes == n
    assert [found.ratio('metaacon', phase) for phase in PHASES] == [2, 3, 0.25, 7 / 6]
    # SiLU reads x and writes y; backward it reads x and g and writes the gradient.
    assert [found.bandwidth('silu', p) for p in PHASES] == [2 * n, n, 3 * n / 4, 5 * n / 6]
    # Meta-ACON needs another pass over x, and a second over x and g.
    assert [found.bandwidth('metaacon', p) for p in PHASES] == [1.5 * n, n / 2, 5 * n, 8 * n / 7]
    assert found.copy_bandwidth() == 2 * n / 0.25
    assert found.kept_maps('silu') == 3


def test_without_silu_there_is_no_ratio():
    assert result(relu=(1, 1, 1, 2)).ratio('relu', 'both') is None
    assert result(silu=(1, 1, 1, 2)).ratio('relu', 'both') is None


@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
@pytest.mark.parametrize('layout', ['nchw', 'channels_last'])
def test_every_eager_row_is_measured_on_every_kind_of_map(dtype, layout):
    case = Case(CASE.shape, dtype, layout)
    found = measure_case(case, EAGER, Plan(rounds=3), clock=CountingClock())
    assert found.failures == {}
    assert list(found.times) == list(found.kept) == EAGER
    for row, phases in found.times.items():
        assert {phase: s.median for phase, s in phases.items()} == {
            'inference': 1,
            'forward': 1,
            'backward': 1,
            'both': 2,
        }
        assert phases['both'].count == (3 if ROWS[row].every == 1 else 1)
    assert found.copy == Spread(1, 1, 1, 3)
    # Small tensors aside, such as the norms' of Meta-ACON on 2 samples.
    assert found.kept_maps('silu') == 1
    assert int(found.kept_maps('published_aconc')) == (4 if dtype == 'fp32' else 7)


def test_a_row_of_one_pixel_has_the_dtype_and_the_channels_of_the_map_and_nothing_to_move():
    seen = []

    class Seen(nn.Module):
        def forward(self, x):
            seen.append((tuple(x.shape), x.dtype, x.requires_grad))
            return x * 2

    feed = Feed(Case(CASE.shape, 'bf16', 'channels_last'), 'cpu', CountingClock())
    RowTask(Seen(), feed, one_pixel=True)()
    assert set(seen) == {((1, CASE.shape[1], 1, 1), torch.bfloat16, True)}
    assert ROWS['silu_call'].one_pixel
    assert ROWS['aconc_call'].one_pixel
    call = {'aconc_call': (1, 1, 1, 2)}
    assert result(**call).bandwidth('aconc_call', 'both') == 0


def test_a_row_that_cannot_run_is_left_out_and_says_why(monkeypatch):
    class Compiled(nn.Module):
        def forward(self, x):
            raise RuntimeError('no compiler\n  here')

    monkeypatch.setitem(ROWS, 'compiled', Row('compiled', lambda channels: Compiled()))
    found = measure_case(CASE, ['compiled', 'silu'], Plan(rounds=1), clock=CountingClock())
    assert found.failures == {'compiled': 'RuntimeError: no compiler here'}
    assert list(found.times) == ['silu']


def test_a_bug_in_a_row_is_not_taken_for_a_row_that_cannot_run(monkeypatch):
    monkeypatch.setitem(ROWS, 'broken', Row('broken', lambda channels: AconC(channels + 1)))
    with pytest.raises(ValueError, match='does not fit x'):
        measure_case(CASE, ['broken'], Plan(rounds=1), clock=CountingClock())


def test_parameters_are_moved_away_from_their_first_values():
    module = AconC(8)
    task = RowTask(module, Feed(CASE, 'cpu', CountingClock()))
    task()
    assert not set(module.p1.tolist()) & {0.0, 1.0}
    assert len(set(module.p2.tolist())) == 8
    assert module.p1.grad is None


def test_every_timing_starts_from_the_map_written_anew():
    class Spoiler(nn.Module):
        """Spoils its input, so that whoever comes next would see."""

        seen = ()

        def forward(self, x):
            self.seen = (*self.seen, x.detach().sum().item())
            with torch.no_grad():
                x.zero_()
            return x * 1

    feed = Feed(CASE, 'cpu', CountingClock())
    module = Spoiler()
    RowTask(module, feed)()
    # The first run is not timed.
    assert module.seen[1:] == (feed.source.sum().item(),) * 2
    assert feed.source.any()


def test_maps_have_the_layout_and_dtype_of_their_case():
    feed = Feed(Case(CASE.shape, 'bf16', 'channels_last'), 'cpu', CountingClock())
    for tensor in (feed.x, feed.gradient, feed.target):
        assert tensor.dtype == torch.bfloat16
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert feed.autocast()._enabled
    assert not Feed(CASE, 'cpu', CountingClock()).autocast()._enabled
    feed.time_copy()
    assert torch.equal(feed.target, feed.source)


def test_the_cases_are_all_combinations():
    cases = list(all_cases())
    assert len(set(cases)) == len(cases) == 5 * 2 * 2
    assert [*all_cases([(1, 2, 3, 4)], ['bf16'], ['nchw'])] == [Case((1, 2, 3, 4), 'bf16', 'nchw')]
    assert COPY not in benchmark_activation.ROWS
