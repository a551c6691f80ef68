import pytest
import torch
from torch import nn

from activation import SHAPES, ActivationTask, FeatureMap, measure_map
from compared import ACTIVATIONS

SHAPE = (2, 8, 6, 4)
EAGER = [name for name in ACTIVATIONS if name != 'compiled']


def feature_map(dtype=torch.float32, layout=torch.contiguous_format):
    return FeatureMap(SHAPE, dtype, layout, 'cpu')


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_every_eager_activation_is_measured_on_every_kind_of_map(counting_clock, dtype, layout):
    medians, saved = measure_map(feature_map(dtype, layout), EAGER, rounds=3)
    assert list(medians) == list(saved) == EAGER
    assert all(phases == {'training': 1, 'inference': 1} for phases in medians.values())
    assert saved['silu'] == 1
    # Four maps of float32, and under autocast three of them beside one of bfloat16.
    assert int(saved['published_aconc']) == (4 if dtype == torch.float32 else 7)


def test_every_eager_activation_is_measured_on_one_pixel():
    pixel = FeatureMap(SHAPES[0], torch.float32, torch.contiguous_format, 'cpu')
    assert list(measure_map(pixel, EAGER, rounds=1)[0]) == EAGER


class Stub(nn.Module):
    """A module with a function of its input in the place of an activation's."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_parameters_are_moved_away_from_their_first_values():
    task = ActivationTask(ACTIVATIONS['aconc'], feature_map())
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

    shared = feature_map()
    ActivationTask(lambda channels: Stub(spoil), shared)()
    # The first run is not timed.
    assert seen[1:] == [shared.source.sum().item()] * 2
    assert shared.source.any()


def test_maps_have_the_layout_and_dtype_that_are_asked_for():
    shared = feature_map(torch.bfloat16, torch.channels_last)
    for tensor in (shared.source, shared.x, shared.gradient):
        assert tensor.dtype == torch.bfloat16
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_bfloat16_map_runs_under_autocast(dtype):
    seen = []
    stub = Stub(lambda x: seen.append(torch.is_autocast_enabled('cpu')) or x)
    ActivationTask(lambda channels: stub, feature_map(dtype)).forward()
    assert seen == [dtype == torch.bfloat16]
