import pytest
import torch

from acon_mm.analysis.saved_memory import saved_bytes
from acon_mm.models import MetaAcon
from compared import PublishedAconC
from train_step import NETWORKS, StepTask, build_network, measure_network

SHUFFLENET, _, RESNET, RETINANET = NETWORKS
SMALL = SHUFFLENET._replace(batch_size=4, image_size=32)


def test_steps_and_inferences_are_timed_and_the_published_formula_saves_most(counting_clock):
    names = ['relu', 'silu', 'published_aconc']
    medians, saved = measure_network(SMALL, names, rounds=2)
    assert medians == {name: {'step': 1, 'latency': 1} for name in names}
    assert saved['relu'] <= saved['silu'] < saved['published_aconc']


def test_a_step_moves_the_weights_and_leaves_no_gradients():
    task = StepTask(SMALL, 'metaacon')
    before = [p.clone() for p in task.model.parameters()]
    loss = task.step()
    assert loss.isfinite()
    assert not loss.requires_grad
    assert any(not torch.equal(p, q) for p, q in zip(task.model.parameters(), before, strict=True))
    assert all(p.grad is None for p in task.model.parameters())
    assert task.model.training


def test_a_loss_that_is_not_finite_is_refused():
    task = StepTask(SMALL, 'relu')
    task.batch['inputs'].fill_(float('nan'))
    with pytest.raises(FloatingPointError, match="loss with 'relu' is nan"):
        task()


def test_a_detector_takes_a_step_too(counting_clock):
    task = StepTask(RETINANET._replace(image_size=64), 'metaacon')
    assert task() == {'step': 1, 'latency': 1}


def test_the_activation_stands_in_the_network_with_the_networks_reduction():
    model, _ = build_network(SMALL, 'metaacon')
    metas = [m for m in model.modules() if isinstance(m, MetaAcon)]
    assert metas
    assert all(m.fc1.out_channels == max(8, m.num_channels // 8) for m in metas)
    model, _ = build_network(SMALL, 'published_aconc')
    assert any(isinstance(m, PublishedAconC) for m in model.modules())


def test_a_new_network_normalises_with_the_statistics_of_its_images():
    model, batch = build_network(SMALL, 'relu')
    conv, norm = model.backbone.conv1.conv, model.backbone.conv1.bn
    maps = conv(batch['inputs'])
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3)))
    assert model.training


@pytest.mark.parametrize(('name', 'more'), [('silu', 0), ('published_aconc', 4), ('aconc', 0)])
def test_a_bottleneck_saves_so_many_maps_more_than_with_relu(name, more):
    network = RESNET._replace(batch_size=1, image_size=64)
    x = torch.rand(1, 256, 16, 16, requires_grad=True)

    def saved(name):
        block = build_network(network, name)[0].backbone.layer1[1]
        return saved_bytes(lambda: block(x), block)

    maps = 64 * 16 * 16 * 4  # one activation of 64 channels is replaced
    parameters = 3 * 64 * 4  # an operator may save a copy of them, or statistics
    assert abs(saved(name) - saved('relu') - more * maps) <= parameters
