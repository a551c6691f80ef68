from dataclasses import replace

import pytest
import torch

from acon_mm.analysis.benchmark_blocks import measure_block
from acon_mm.analysis.benchmark_networks import NETWORKS, build_network, make_batch
from acon_mm.analysis.benchmark_timing import Plan
from acon_mm.analysis.benchmark_train_step import StepTask, measure_network
from acon_mm.analysis.published import PublishedAconC
from acon_mm.models import MetaAcon

SMALL = replace(NETWORKS['shufflenetv2_0.5x'], batch_size=4, image_size=32)


class CountingClock:
    """A clock that advances by one second with each look at it."""

    moment = 0

    def stamp(self):
        self.moment += 1
        return self.moment

    def seconds(self, start, end):
        return end - start


def step_task(network=SMALL, row='relu'):
    return StepTask(network, row, 'cpu', CountingClock())


def test_steps_and_latencies_are_measured_and_the_published_formula_keeps_most():
    found = measure_network(
        SMALL, ['relu', 'silu', 'published_aconc'], Plan(rounds=2), clock=CountingClock()
    )
    for row, phases in found.times.items():
        count = 1 if row == 'published_aconc' else 2
        assert {phase: (s.median, s.count) for phase, s in phases.items()} == {
            'step': (1, count),
            'latency': (1, count),
        }
    assert found.ratio('silu', 'step') == 1
    assert found.kept['relu'] < found.kept['silu'] < found.kept['published_aconc']
    # The images are kept as well, but they lie there before the step.
    images = make_batch(SMALL)[0].nbytes
    for row, kept in found.kept.items():
        assert found.peak[row] > kept - images


def test_without_relu_there_is_no_ratio():
    found = measure_network(SMALL, ['silu'], Plan(rounds=1), clock=CountingClock())
    assert found.ratio('silu', 'step') is None


def test_a_step_moves_the_weights_and_leaves_no_gradients():
    task = step_task(row='metaacon')
    before = [p.clone() for p in task.model.parameters()]
    loss = task.step()
    assert loss.isfinite()
    assert not loss.requires_grad
    assert any(not torch.equal(p, q) for p, q in zip(task.model.parameters(), before, strict=True))
    assert all(p.grad is None for p in task.model.parameters())
    assert task.model.training


def test_a_loss_that_is_not_finite_is_refused():
    task = step_task()
    task.images.fill_(float('nan'))
    with pytest.raises(FloatingPointError, match="activation 'relu' is nan"):
        task()


def test_a_detector_takes_a_step_too():
    network = replace(NETWORKS['retinanet_r50'], image_size=64)
    assert step_task(network, 'metaacon')() == {'step': 1, 'latency': 1}


def test_the_activation_of_a_row_stands_in_the_network_with_the_networks_reduction():
    model = build_network(SMALL, 'metaacon')
    metas = [m for m in model.modules() if isinstance(m, MetaAcon)]
    assert metas
    assert all(m.fc1.out_channels == max(8, m.num_channels // 8) for m in metas)
    assert any(
        isinstance(m, PublishedAconC) for m in build_network(SMALL, 'published_aconc').modules()
    )


def test_a_new_network_normalises_with_the_statistics_of_its_images():
    model = build_network(SMALL, 'relu')
    conv, norm = model.backbone.conv1.conv, model.backbone.conv1.bn
    maps = conv(make_batch(SMALL)[0])
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3)))
    assert norm.momentum == 0.1
    assert model.training


@pytest.mark.parametrize(('row', 'more'), [('silu', 1), ('published_aconc', 4), ('aconc', 1)])
def test_a_bottleneck_keeps_so_many_maps_more_than_with_relu(row, more):
    network = replace(NETWORKS['resnet50'], batch_size=1, image_size=64)
    found, plain = measure_block(network, row), measure_block(network, 'relu')
    maps = 64 * 16 * 16 * 4  # one activation of 64 channels is replaced
    parameters = 3 * 64 * 4  # that an operator may keep a copy of
    assert 0 <= found.nbytes - plain.nbytes - more * maps <= parameters
    assert found.shape == (1, 256, 16, 16)
    assert found.given.savers == ('conv1',)
    assert found.kind == 'AconBottleneck'
