from copy import deepcopy

import pytest
import torch
from torch import nn

from acon_mm.models import MetaAcon
from acon_mm.models.layers import checkpoint_block


def build(norm=nn.BatchNorm2d, momentum=0.3):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), norm(4, momentum=momentum), MetaAcon(4), nn.Conv2d(4, 2, 1)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('momentum', [0.3, None])
@pytest.mark.parametrize('norm', [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_gradients_and_running_statistics_are_those_of_a_plain_call(norm, momentum, training):
    plain = build(norm, momentum).train(training)
    again = deepcopy(plain)
    x = torch.randn(4, 3, 8, 8)
    plain(x).square().sum().backward()
    checkpoint_block(again, x).square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name
    for name, value in plain.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert again[1].momentum == momentum
    assert again[1].num_batches_tracked == int(training)


def test_a_compiled_call_has_the_same_gradients_and_running_statistics():
    torch._dynamo.reset()
    plain = build()
    again = deepcopy(plain)
    x = torch.randn(4, 3, 8, 8)
    plain(x).square().sum().backward()
    compiled = torch.compile(
        lambda x: checkpoint_block(again, x), backend='aot_eager', fullgraph=True
    )
    compiled(x).square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], msg=name)
    torch._dynamo.reset()


def test_a_part_of_a_module_leaves_the_statistics_of_the_whole_alone():
    net = build()
    buffers = dict(net.named_buffers())
    checkpoint_block(net, torch.randn(4, 3, 8, 8), net[:3].forward).sum().backward()
    assert net[3].weight.grad is None
    assert net[1].num_batches_tracked == net[2].bn1.num_batches_tracked == 1
    assert all(buffer is buffers[name] for name, buffer in net.named_buffers())


def test_intermediate_results_are_computed_a_second_time_in_the_backward_pass():
    net, calls = build(), []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    out = checkpoint_block(net, torch.randn(4, 3, 8, 8))
    assert len(calls) == 1
    out.sum().backward()
    assert len(calls) == 2


def test_a_norm_tracks_again_after_an_error_in_the_backward_pass():
    net = build()
    out = checkpoint_block(net, torch.randn(4, 3, 8, 8))
    net[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        out.sum().backward()
    assert net[1].num_batches_tracked == 1
    net[:2](torch.randn(4, 3, 8, 8))
    assert net[1].num_batches_tracked == 2


def test_without_gradients_the_module_is_called_once():
    net = build().eval()
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(checkpoint_block(net, x), net(x))
