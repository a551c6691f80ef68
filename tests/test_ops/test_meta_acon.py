"""Channel-wise Meta-ACON as one autograd function: equal to its parts, whoever looks at them."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from acon_mm.models import MetaAcon
from acon_mm.ops.norm_act import Activation, NormedLayer, may_compute_norm_act, norm_act

needs_cpu_kernel = pytest.mark.skipif(
    not may_compute_norm_act(torch.ones(1, 1, 2, 2)),
    reason='the CPU kernel is not active, see acon_mm.ops.backend_report()',
)


@pytest.mark.parametrize('training', [True, False])
def test_many_gradients_at_once_of_meta_acon_equal_one_after_the_other(training):
    torch.manual_seed(0)
    act, x = MetaAcon(6).train(training), torch.randn(4, 6, 5, 5, requires_grad=True)
    args, g = [x, *act.parameters()], torch.randn(3, 4, 6, 5, 5)
    y = act(x)
    found = torch.autograd.grad(y, args, g, is_grads_batched=True, retain_graph=True)
    single = [torch.autograd.grad(y, args, one, retain_graph=True) for one in g]
    for grad, right in zip(found, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(grad, torch.stack(right), atol=5e-5, rtol=1e-4)


def draw_layers(dtype=torch.double):
    """Layers for 6 channels and a hidden width of 4, away from their first values."""
    layers = []
    for inputs, outputs in ((6, 4), (4, 6)):
        tensors = [torch.randn(outputs, inputs, 1, 1), *torch.randn(4, outputs)]
        tensors.append(torch.rand(outputs) + 0.5)
        layers.append(NormedLayer(*(t.to(dtype) for t in tensors), 0.3, 1e-3))
    return layers


def apart(x, p1, p2, layers, batch):
    """Meta-ACON from torch's own functions, updating the running statistics."""
    hidden = x.mean((2, 3))
    for layer in layers:
        hidden = F.conv2d(hidden[:, :, None, None], layer.weight, layer.bias)
        hidden = F.batch_norm(
            hidden,
            layer.running_mean,
            layer.running_var,
            layer.norm_weight,
            layer.norm_bias,
            batch,
            layer.momentum,
            layer.eps,
        ).flatten(1)
    slope = (p1 - p2).view(1, -1, 1, 1)
    factor = torch.sigmoid(hidden)[:, :, None, None]
    return slope * x * torch.sigmoid(factor * slope * x) + p2.view(1, -1, 1, 1) * x


@needs_cpu_kernel
@pytest.mark.parametrize('batch', [True, False], ids=['batch', 'running'])
def test_fused_meta_acon_equals_its_parts(batch):
    torch.manual_seed(0)
    x = torch.randn(5, 6, 7, 3, dtype=torch.double, requires_grad=True)
    p1, p2 = torch.randn(2, 6, dtype=torch.double, requires_grad=True)
    layers = draw_layers()
    for layer in layers:
        for param in layer[:4]:
            param.requires_grad_()
    twins = [
        layer._replace(
            running_mean=layer.running_mean.clone(), running_var=layer.running_var.clone()
        )
        for layer in layers
    ]
    params = [x, p1, p2, *layers[0][:4], *layers[1][:4]]
    y = norm_act(x, None, Activation('channel_wise', (p1, p2), layers, batch))
    expected = apart(x, p1, p2, twins, batch)
    torch.testing.assert_close(y, expected)
    g = torch.randn_like(y)
    for found, wanted in zip(
        torch.autograd.grad(y, params, g), torch.autograd.grad(expected, params, g), strict=True
    ):
        torch.testing.assert_close(found, wanted)
    for layer, twin in zip(layers, twins, strict=True):
        torch.testing.assert_close(layer.running_mean, twin.running_mean)
        torch.testing.assert_close(layer.running_var, twin.running_var)


@needs_cpu_kernel
def test_large_numbers_between_the_layers_do_not_overflow_when_squared():
    torch.manual_seed(0)
    x = torch.randn(5, 6, 7, 3, requires_grad=True)
    p1, p2 = torch.randn(2, 6)
    first, second = draw_layers(torch.float)
    layers = [first._replace(weight=1e20 * first.weight), second]
    twins = [NormedLayer(*(t.double() for t in layer[:6]), *layer[6:]) for layer in layers]
    y = norm_act(x, None, Activation('channel_wise', (p1, p2), layers, True))
    expected = apart(x.double(), p1.double(), p2.double(), twins, True)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()


@needs_cpu_kernel
@pytest.mark.parametrize('batch', [True, False], ids=['batch', 'running'])
def test_fused_meta_acon_can_be_differentiated_twice(batch):
    torch.manual_seed(0)
    layers = draw_layers()
    tensors = [torch.randn(3, 6, 2, 2, dtype=torch.double), *torch.randn(2, 6).double()]
    tensors += [param for layer in layers for param in layer[:4]]
    args = [tensor.requires_grad_() for tensor in tensors]

    def call(x, p1, p2, *params):
        own = [
            layer._replace(**dict(zip(NormedLayer._fields[:4], part, strict=True)))
            for layer, part in zip(layers, (params[:4], params[4:]), strict=True)
        ]
        return norm_act(x, None, Activation('channel_wise', (p1, p2), own, batch))

    assert gradcheck(call, args, fast_mode=True)
    assert gradgradcheck(call, args, fast_mode=True)


@needs_cpu_kernel
def test_derivatives_in_evaluation_are_those_of_the_statistics_it_saw():
    """A training pass in between changes them in place."""
    torch.manual_seed(0)
    act, x = MetaAcon(6).eval(), torch.randn(4, 6, 5, 5, requires_grad=True)
    args = [x, *act.parameters()]
    right = torch.autograd.grad(act(x).square().sum(), args)
    y = act(x).square().sum()
    act.train()(3 + 5 * torch.randn(4, 6, 5, 5))
    for grad, expected in zip(torch.autograd.grad(y, args, create_graph=True), right, strict=True):
        torch.testing.assert_close(grad, expected, atol=1e-4, rtol=1e-4)


@needs_cpu_kernel
def test_a_training_pass_tells_autograd_that_it_changes_the_statistics():
    act, x = MetaAcon(6), torch.randn(4, 6, 5, 5)
    kept = act.bn2.weight * act.bn2.running_var  # which autograd keeps
    act(x)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        kept.sum().backward()


@needs_cpu_kernel
def test_autocast_does_not_narrow_a_backward_pass_that_is_differentiable():
    torch.manual_seed(0)
    act, x = MetaAcon(64), torch.randn(8, 64, 5, 5, requires_grad=True)
    args = [x, *act.parameters()]
    right = torch.autograd.grad(act(x).square().sum(), args)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = torch.autograd.grad(act(x).square().sum(), args, create_graph=True)
    for grad, expected in zip(found, right, strict=True):
        torch.testing.assert_close(grad, expected, atol=1e-4, rtol=1e-4)


LISTENERS = {
    'forward': lambda part, seen: part.register_forward_hook(lambda *_: seen.append(1)),
    'forward_pre': lambda part, seen: part.register_forward_pre_hook(lambda *_: seen.append(1)),
    'backward': lambda part, seen: part.register_full_backward_hook(lambda *_: seen.append(1)),
    'backward_pre': lambda part, seen: part.register_full_backward_pre_hook(
        lambda *_: seen.append(1)
    ),
}


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('kind', LISTENERS)
@pytest.mark.parametrize('name', ['fc1', 'bn1', 'fc2', 'bn2'])
def test_a_listener_on_a_part_of_meta_acon_is_heard_and_changes_nothing(name, kind, training):
    torch.manual_seed(0)
    x = torch.randn(4, 8, 5, 5)
    plain, heard = MetaAcon(8).train(training), MetaAcon(8).train(training)
    heard.load_state_dict(plain.state_dict())
    seen = []
    LISTENERS[kind](heard.get_submodule(name), seen)
    y = heard(x)
    torch.testing.assert_close(plain(x), y)
    y.sum().backward()
    assert len(seen) == 1
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, heard.state_dict()[name], msg=name)
