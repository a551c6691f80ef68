"""What the autograd functions keep, and that they can be differentiated again."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from acon_mm.models import AconA, AconC, MetaAcon
from acon_mm.ops import acon, autograd, cpu_kernel, plain_kernel, spatial_mean
from acon_mm.ops.autograd import acon_by_kernel
from acon_mm.ops.backends import choose_kernel
from acon_mm.ops.formula import acon_formula
from acon_mm.ops.meta_acon import NormedLayer, can_compute_meta_acon, meta_acon

needs_cpu_kernel = pytest.mark.skipif(
    not can_compute_meta_acon(torch.ones(1, 1, 2, 2), torch.ones(1), torch.ones(1), ()),
    reason='the CPU kernel is not active, see acon_mm.ops.backend_report()',
)


def kept_maps(module, x) -> dict[int, int]:
    """Return the bytes of each storage of at least half the size of x that backward needs."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.nbytes() >= x.numel() * x.element_size() / 2:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(x)
    assert y.requires_grad
    return kept


@pytest.mark.skipif(choose_kernel(torch.ones(1, 1)) is None, reason='the formula keeps more')
@pytest.mark.parametrize('autocast', [False, True], ids=['float32', 'bfloat16 autocast'])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize('cls', [AconA, AconC, MetaAcon])
def test_the_input_is_the_only_map_that_is_kept(cls, layout, autocast):
    x = torch.randn(4, 32, 40, 40, dtype=torch.bfloat16 if autocast else torch.float32)
    x = x.contiguous(memory_format=layout).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
        assert cls(32)(x).dtype == x.dtype
        assert kept_maps(cls(32), x) == {x.data_ptr(): x.numel() * x.element_size()}
        published = kept_maps(lambda x: nn.SiLU()(x) * torch.sigmoid(x), x)
    assert len(published) > 1  # the measure sees more where there is more


KERNELS = [
    pytest.param(plain_kernel, id='plain'),
    pytest.param(cpu_kernel, id='cpu', marks=needs_cpu_kernel),
]


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('beta_shape', [(3,), (2, 3)])
def test_gradients_by_a_kernel_equal_finite_differences(beta_shape, kernel):
    torch.manual_seed(0)
    shapes = [(2, 3, 4, 5), (3,), (3,), beta_shape]
    args = [torch.randn(s, dtype=torch.double, requires_grad=True) for s in shapes]
    assert gradcheck(lambda *args: acon_by_kernel(kernel, *args), args)
    assert gradgradcheck(lambda *args: acon_by_kernel(kernel, *args), args)


@pytest.mark.parametrize('kernel', KERNELS)
def test_parameters_of_any_strides_dtype_and_shape_that_fits_give_the_same(kernel):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5)
    p1, p2, beta = torch.randn(3, 3)
    expected = acon_formula(x, p1, p2, beta)
    for other in (
        torch.stack([p1, p1], 1)[:, 0],  # strided
        p1.double(),
        p1.view(1, 3, 1, 1),
        p1.clone().requires_grad_(),
        nn.Parameter(p1),
    ):
        torch.testing.assert_close(acon_by_kernel(kernel, x, other, p2, beta), expected)
        torch.testing.assert_close(
            acon_by_kernel(kernel, x, other, p2, beta.expand(2, 3)), expected
        )
    torch.testing.assert_close(
        acon_by_kernel(kernel, x, 1.0, p2, beta), acon_formula(x, torch.ones(3), p2, beta)
    )
    with pytest.raises(ValueError, match='p1'):
        acon_by_kernel(kernel, x, torch.ones(4), p2, beta)


@needs_cpu_kernel
def test_what_modules_pass_needs_no_autograd_function_in_python(monkeypatch):
    monkeypatch.setattr(autograd, '_Acon', None)
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    acon(x, *torch.randn(3, 3, requires_grad=True)).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize('kernel', KERNELS)
def test_a_map_that_was_overwritten_is_noticed_in_the_backward_pass(kernel):
    x = torch.randn(2, 3, 4, 5)
    p1, p2, beta = torch.randn(3, 3, requires_grad=True)
    y = acon_by_kernel(kernel, x, p1, p2, beta)
    x.zero_()
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        y.sum().backward()


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (2, 3, 7), (2, 3)])
def test_gradient_of_the_mean_equals_finite_differences(shape):
    x = torch.randn(shape, dtype=torch.double, requires_grad=True)
    assert gradcheck(spatial_mean, [x])
    assert gradgradcheck(spatial_mean, [x])
    torch.testing.assert_close(spatial_mean(x), x.flatten(2).mean(2) if x.dim() > 2 else x)


@pytest.mark.parametrize('twice', [False, True])
@pytest.mark.parametrize('trained', [(0, 2), (1,), (3,)])
def test_what_is_trained_gets_its_gradient_whatever_else_is_frozen(trained, twice):
    torch.manual_seed(0)
    args = [torch.randn(2, 3, 4, 4), *torch.randn(2, 3), torch.randn(2, 3)]
    wanted = [args[i].requires_grad_() for i in trained]
    slope, p2, beta = (
        (p[:, :, None, None] if p.dim() == 2 else p[:, None, None])
        for p in (args[1] - args[2], args[2], args[3])
    )
    expected = slope * args[0] * torch.sigmoid(beta * slope * args[0]) + p2 * args[0]
    g = torch.randn_like(args[0])
    found = torch.autograd.grad(acon(*args), wanted, g, create_graph=twice)
    for grad, right in zip(found, torch.autograd.grad(expected, wanted, g), strict=True):
        torch.testing.assert_close(grad, right)


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('create_graph', [False, True])
def test_many_gradients_at_once_equal_one_after_the_other(kernel, create_graph):
    torch.manual_seed(0)
    args = [torch.randn(2, 3, 4, 4), *torch.randn(2, 3), torch.randn(2, 3)]
    args = [arg.requires_grad_() for arg in args]
    g = torch.randn(5, 2, 3, 4, 4)
    y = acon_by_kernel(kernel, *args)
    once = dict(retain_graph=True, create_graph=create_graph)
    found = torch.autograd.grad(y, args, g, is_grads_batched=True, **once)
    single = [torch.autograd.grad(y, args, one, retain_graph=True) for one in g]
    for grad, right in zip(found, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(grad, torch.stack(right))


@pytest.mark.parametrize('training', [True, False])
def test_many_gradients_at_once_of_meta_acon_equal_one_after_the_other(training):
    torch.manual_seed(0)
    act, x = MetaAcon(6).train(training), torch.randn(4, 6, 5, 5, requires_grad=True)
    args, g = [x, *act.parameters()], torch.randn(3, 4, 6, 5, 5)
    y = act(x)
    found = torch.autograd.grad(y, args, g, is_grads_batched=True, retain_graph=True)
    single = [torch.autograd.grad(y, args, one, retain_graph=True) for one in g]
    for grad, right in zip(found, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(grad, torch.stack(right), atol=1e-5, rtol=1e-4)


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
    y = meta_acon(x, p1, p2, layers, batch)
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
        return meta_acon(x, p1, p2, own, batch)

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
