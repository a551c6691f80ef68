import pytest
import torch
from torch import nn

from acon_mm.models import AconC
from activation import ActivationTask, Case, FeatureMap, measure_case
from compared import ACTIVATIONS, Activation

CASE = Case((2, 8, 6, 4), 'fp32', 'nchw')
EAGER = [name for name in ACTIVATIONS if name != 'compiled']


@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
@pytest.mark.parametrize('layout', ['nchw', 'channels_last'])
def test_every_eager_activation_is_measured_on_every_kind_of_map(counting_clock, dtype, layout):
    case = Case(CASE.shape, dtype, layout)
    found = measure_case(case, EAGER, rounds=3)
    assert found.failures == {}
    assert list(found.times) == list(found.saved) == EAGER
    for name, phases in found.times.items():
        medians = {phase: spread.median for phase, spread in phases.items()}
        assert medians == {'inference': 1, 'forward': 1, 'backward': 1, 'both': 2}
        assert phases['both'].count == (1 if ACTIVATIONS[name].slow else 3)
    assert case.nbytes == 2 * 8 * 6 * 4 * (4 if dtype == 'fp32' else 2)
    assert found.saved['silu'] == case.nbytes
    # Four maps of float32, and under autocast three of them beside one of bfloat16.
    assert found.saved['published_aconc'] // case.nbytes == (4 if dtype == 'fp32' else 7)


class Stub(nn.Module):
    """A module with a function of its input in the place of an activation's."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def stub(function, **kwargs):
    return Activation('Stub', lambda channels: Stub(function), **kwargs)


def test_one_pixel_has_the_dtype_and_the_channels_of_the_map():
    seen = []

    def note(x):
        seen.append((tuple(x.shape), x.dtype, x.requires_grad))
        return x * 2

    feature_map = FeatureMap(Case(CASE.shape, 'bf16', 'channels_last'), 'cpu')
    ActivationTask(stub(note, one_pixel=True), feature_map)()
    assert set(seen) == {((1, CASE.shape[1], 1, 1), torch.bfloat16, True)}


def test_an_activation_that_cannot_run_is_left_out_and_says_why(monkeypatch):
    def fail(x):
        raise RuntimeError('no compiler\n  here')

    monkeypatch.setitem(ACTIVATIONS, 'compiled', stub(fail))
    found = measure_case(CASE, ['compiled', 'silu'], rounds=1)
    assert found.failures == {'compiled': 'RuntimeError: no compiler here'}
    assert list(found.times) == list(found.saved) == ['silu']


def test_a_bug_is_not_taken_for_an_activation_that_cannot_run(monkeypatch):
    broken = Activation('broken', lambda channels: AconC(channels + 1))
    monkeypatch.setitem(ACTIVATIONS, 'broken', broken)
    with pytest.raises(ValueError, match='does not fit x'):
        measure_case(CASE, ['broken'], rounds=1)


def test_parameters_are_moved_away_from_their_first_values():
    task = ActivationTask(ACTIVATIONS['aconc'], FeatureMap(CASE, 'cpu'))
    task()
    assert not set(task.module.p1.tolist()) & {0.0, 1.0}
    assert len(set(task.module.p2.tolist())) == 8
    assert task.module.p1.grad is None


def test_every_timing_starts_from_the_map_written_anew():
    seen = []

    def spoil(x):
        seen.append(x.detach().sum().item())
        with torch.no_grad():
            x.zero_()
        return x * 1

    feature_map = FeatureMap(CASE, 'cpu')
    ActivationTask(stub(spoil), feature_map)()
    # The first run is not timed.
    assert seen[1:] == [feature_map.source.sum().item()] * 2
    assert feature_map.source.any()


def test_maps_have_the_layout_and_dtype_of_their_case():
    feature_map = FeatureMap(Case(CASE.shape, 'bf16', 'channels_last'), 'cpu')
    for tensor in (feature_map.source, feature_map.x, feature_map.gradient):
        assert tensor.dtype == torch.bfloat16
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
def test_a_bfloat16_map_runs_under_autocast(dtype):
    seen = []
    feature_map = FeatureMap(Case(CASE.shape, dtype, 'nchw'), 'cpu')
    activation = stub(lambda x: seen.append(torch.is_autocast_enabled('cpu')) or x)
    ActivationTask(activation, feature_map).forward()
    assert seen == [dtype == 'bf16']
