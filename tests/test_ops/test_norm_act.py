"""A norm and an activation in one operator: equal to one after the other, computed in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from acon_mm.ops.norm_act import (
    Activation,
    Norm,
    NormedLayer,
    can_compute_norm_act,
    may_compute_norm_act,
    norm_act,
)

pytestmark = pytest.mark.skipif(
    not may_compute_norm_act(torch.ones(1, 1, 2, 2)),
    reason='the CPU kernel is not active, see acon_mm.ops.backend_report()',
)

KINDS = ('relu', 'acon', 'channel_wise', 'layer_wise')
HIDDEN = 4
# Of a value and of a gradient of x, in relation to the largest.
ROUNDING = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def draw_parameters(kind, channels, dtype, affine=True, generator=None):
    """Draw the norm's weight and bias, the parameters of the activation and its layers, flat."""

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.double).to(dtype)

    of_norm = [normal(channels), normal(channels)] if affine else [None, None]
    count = {'relu': 0, 'acon': 3}.get(kind, 2)
    of_layers = []
    if kind == 'channel_wise':
        for inputs, outputs in ((channels, HIDDEN), (HIDDEN, channels)):
            of_layers += [normal(outputs, inputs, 1, 1), *(normal(outputs) for _ in range(3))]
    return [*of_norm, *(normal(channels) for _ in range(count)), *of_layers]


def draw_running(kind, channels, dtype):
    """Draw running means and variances: of the norm and of both layers."""
    widths = [channels, HIDDEN, channels] if kind == 'channel_wise' else [channels]
    return [t for width in widths for t in (torch.randn(width), 0.5 + torch.rand(width))], dtype


def describe(kind, parameters, running, batch, eps=1e-3):
    """Return a Norm and an Activation of tensors as the two functions above draw them."""
    weight, bias, *rest = parameters
    count = {'relu': 0, 'acon': 3}.get(kind, 2)
    params, of_layers = rest[:count], rest[count:]
    layers = [
        NormedLayer(*of_layers[4 * i : 4 * i + 4], *running[2 * i + 2 : 2 * i + 4], 0.3, eps)
        for i in range(len(of_layers) // 4)
    ]
    norm = Norm(weight, bias, *running[:2], 0.1, eps, batch)
    return norm, Activation(kind, tuple(params), layers, batch and bool(layers))


def one_after_the_other(x, norm, act):
    """Compute it by torch's own functions, which update the running statistics."""

    def per_channel(t):
        return t.view(1, -1, *(1 for _ in x.shape[2:]))

    y = F.batch_norm(
        x, *norm[2:4], norm.weight, norm.bias, norm.use_batch_stats, norm.momentum, norm.eps
    )
    if act.kind == 'relu':
        return torch.relu(y)
    p1, p2 = map(per_channel, act.params[:2])
    if act.kind == 'acon':
        beta = per_channel(act.params[2])
    else:
        hidden = y.flatten(2).mean(2)
        if act.kind == 'layer_wise':
            hidden = hidden.sum(1, keepdim=True)
        for layer in act.layers:
            hidden = hidden @ layer.weight.flatten(1).T + layer.bias
            affine = layer.norm_weight, layer.norm_bias
            running = layer.running_mean, layer.running_var
            hidden = F.batch_norm(
                hidden, *running, *affine, act.use_batch_stats, layer.momentum, layer.eps
            )
        beta = torch.sigmoid(hidden).view(*hidden.shape, *(1 for _ in x.shape[2:]))
    return (p1 - p2) * y * torch.sigmoid(beta * (p1 - p2) * y) + p2 * y


def compare(kind, x, g, parameters, running, batch, rounding=None):
    """Compare values, gradients and running statistics with those of float64."""
    rounding = rounding or ROUNDING[x.dtype]
    results = []
    for wide in (False, True):
        of_dtype = x.dtype if x.dtype == torch.double else torch.float32
        dtype = torch.double if wide else of_dtype
        leaves = [None if p is None else p.to(dtype).requires_grad_() for p in parameters]
        stats = [t if t is None else t.to(dtype, copy=True) for t in running]
        own_x = (x.double() if wide else x).detach().requires_grad_()
        norm, act = describe(kind, leaves, stats, batch)
        assert wide or can_compute_norm_act(own_x, norm, act)
        y = (one_after_the_other if wide else norm_act)(own_x, norm, act)
        assert wide or (y.dtype == x.dtype and y.shape == x.shape)
        used = [own_x, *(leaf for leaf in leaves if leaf is not None)]
        results.append(([y, *torch.autograd.grad(y, used, g.to(y.dtype))], stats))
    (found, stats), (expected, right_stats) = results
    scale = max(e.abs().max().item() for e in expected[2:]) if len(expected) > 2 else 0
    for i, (value, right) in enumerate(zip(found, expected, strict=True)):
        # Some gradients of layers before a norm are 0: the sums that make them are not.
        largest = max(right.abs().max().item(), scale if i > 1 else 0)
        error = (value.double() - right).abs().max().item()
        assert error <= rounding * (largest + 1e-3), (i, error, largest)
    for value, right in zip(stats, right_stats, strict=True):
        if value is not None:
            torch.testing.assert_close(value.double(), right, atol=1e-4, rtol=1e-4)


@st.composite
def problems(draw):
    """A map of any layout and dtype, its gradient, the parameters, and the mode."""
    dtype = draw(st.sampled_from(list(ROUNDING)))
    shape = draw(st.lists(st.integers(1, 20), min_size=3, max_size=5))
    kind = draw(st.sampled_from(KINDS))
    batch = draw(st.booleans())
    if batch:  # a variance of few values is hardly a number in 16 bits
        shape[0] = max(shape[0], 3)
        shape[-1] = max(shape[-1], 4)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(shape, generator=generator, dtype=torch.double)
    x = (draw(st.sampled_from([0.3, 1.0, 30.0])) * x + draw(st.integers(-2, 2))).to(dtype)
    g = torch.randn(shape, generator=generator).to(dtype)
    layout = draw(st.sampled_from(['contiguous', 'channels_last', 'transposed', 'strided']))
    if layout == 'channels_last':
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    elif layout == 'transposed':
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    elif layout == 'strided':
        x = x.repeat_interleave(2, -1)[..., ::2]
    if draw(st.booleans()):
        g = g[:1, :1].expand_as(g)
    affine = draw(st.booleans())
    parameters = draw_parameters(kind, shape[1], torch.double, affine, generator)
    running, _ = draw_running(kind, shape[1], torch.double)
    if batch and draw(st.booleans()):
        running[:2] = [None, None]
    return kind, x, g, parameters, running, batch


@settings(max_examples=300, deadline=None)
@given(problems())
def test_values_gradients_and_running_statistics_are_those_of_one_after_the_other(problem):
    torch.manual_seed(0)
    kind, x, g, parameters, running, batch = problem
    # Norms of a handful of means turn the rounding of a sum into much more.
    rounding = 1e-9 if x.dtype == torch.double else 5e-2 if kind == 'channel_wise' else None
    compare(kind, x, g, parameters, running, batch, rounding)


SHAPES = [
    (8, 37, 7, 7),  # small planes of several channels in a row
    (2, 24, 33, 31),  # 24 channels are one vector and a half
    (33, 5, 2, 2),  # more samples than a task takes
    (4, 3, 131, 127),  # more pixels than a task takes
    (9, 1, 1, 1),  # one pixel
    (1, 6, 9, 10),  # one sample
]


@pytest.mark.parametrize('batch', [True, False], ids=['batch', 'running'])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_every_way_of_cutting_a_map_gives_the_same(shape, kind, layout, batch):
    if batch and kind == 'channel_wise' and shape[0] == 1:
        pytest.skip('its norms have no variance')
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.double).contiguous(memory_format=layout)
    parameters = draw_parameters(kind, shape[1], torch.double)
    running, _ = draw_running(kind, shape[1], torch.double)
    compare(kind, x, torch.randn_like(x), parameters, running, batch, 1e-9)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize('kind', ['acon', 'layer_wise'])
@pytest.mark.parametrize('shape', [(4, 24, 56, 60), (8, 37, 7, 7), (2, 3, 200, 150)], ids=str)
def test_a_mean_of_a_thousand_times_the_spread_costs_no_digits(shape, kind, layout):
    torch.manual_seed(0)
    x = (1000 + torch.randn(shape)).contiguous(memory_format=layout)
    x[:, :, 0, 0] = 0  # a corner that is far off, as of a padded convolution
    parameters = draw_parameters(kind, shape[1], torch.float32)
    running, _ = draw_running(kind, shape[1], torch.float32)
    compare(kind, x, torch.randn(shape), parameters, running, batch=True, rounding=1e-5)
    x[:, :, 0, 0] = 1000
    compare(kind, x, torch.randn(shape), parameters, running, batch=True, rounding=1e-5)


@pytest.mark.parametrize('batch', [True, False], ids=['batch', 'running'])
@pytest.mark.parametrize('kind', KINDS)
def test_it_can_be_differentiated_twice(kind, batch):
    torch.manual_seed(0)
    x = torch.randn(3, 5, 2, 3, dtype=torch.double, requires_grad=True)
    parameters = [p.requires_grad_() for p in draw_parameters(kind, 5, torch.double)]
    running = [t.double() for t in draw_running(kind, 5, torch.double)[0]]

    def call(x, *parameters):
        copies = [t.clone() for t in running]
        return norm_act(x, *describe(kind, parameters, copies, batch))

    assert gradcheck(call, (x, *parameters), fast_mode=True)
    assert gradgradcheck(call, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('batch', [True, False], ids=['batch', 'running'])
def test_only_the_gradients_that_are_needed_are_returned(kind, batch):
    torch.manual_seed(0)
    x, g = torch.randn(3, 5, 4, 4), torch.randn(3, 5, 4, 4)
    parameters = draw_parameters(kind, 5, torch.float32)
    running = draw_running(kind, 5, torch.float32)[0]

    def gradients(*needed):
        tensors = [t.clone().requires_grad_(i in needed) for i, t in enumerate([x, *parameters])]
        own = [t.clone() for t in running]
        norm_act(tensors[0], *describe(kind, tensors[1:], own, batch)).backward(g)
        return [t.grad for t in tensors]

    every = gradients(*range(1 + len(parameters)))
    for i, right in enumerate(every):
        for j, grad in enumerate(gradients(i)):
            assert torch.equal(grad, right) if i == j else grad is None


def test_half_precision_takes_a_scaled_loss():
    torch.manual_seed(0)
    x, g = torch.randn(4, 8, 16, 16).half(), 1e-5 * torch.randn(4, 8, 16, 16)
    parameters = draw_parameters('acon', 8, torch.float32)
    running = draw_running('acon', 8, torch.float32)[0]
    compare('acon', x, (8192 * g).half(), parameters, running, True)


@pytest.mark.parametrize('kind', KINDS)
def test_a_variance_that_overflows_leaves_no_gradient_as_in_torch(kind):
    torch.manual_seed(0)
    x = (1e30 * torch.randn(4, 3, 5, 5)).requires_grad_()
    weight, bias = torch.randn(2, 3)
    F.batch_norm(x, None, None, weight, bias, training=True).sum().backward()
    right, x.grad = x.grad, None
    parameters = [weight, bias, *draw_parameters(kind, 3, torch.float32, affine=False)[2:]]
    running = draw_running(kind, 3, torch.float32)[0]
    norm_act(x, *describe(kind, parameters, running, batch=True)).sum().backward()
    torch.testing.assert_close(x.grad, right, rtol=0, atol=1e-20)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize('kind', KINDS)
def test_results_do_not_depend_on_the_number_of_threads(kind, layout):
    torch.manual_seed(0)
    x = torch.randn(4, 24, 60, 61).contiguous(memory_format=layout).requires_grad_()
    parameters = [p.requires_grad_() for p in draw_parameters(kind, 24, torch.float32)]
    running = draw_running(kind, 24, torch.float32)[0]
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            own = [t.clone() for t in running]
            y = norm_act(x, *describe(kind, parameters, own, True))
            results.append([y, *torch.autograd.grad(y.square().sum(), [x, *parameters]), *own])
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_of_the_large_tensors_x_alone_is_kept():
    kept = []
    x = torch.randn(4, 8, 16, 16, requires_grad=True)
    parameters = [p.requires_grad_() for p in draw_parameters('channel_wise', 8, torch.float32)]
    running = draw_running('channel_wise', 8, torch.float32)[0]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        norm_act(x, *describe('channel_wise', parameters, running, True))
    assert [t.data_ptr() for t in kept if t.numel() >= x.numel()] == [x.data_ptr()]


def test_what_it_does_not_take_is_said():
    def takes(x, batch=True, kind='acon', of_layers=False, **changed):
        dtype = torch.double if x.dtype == torch.double else torch.float32
        running = [t.to(dtype) for t in draw_running(kind, 5, dtype)[0]]
        norm, act = describe(kind, draw_parameters(kind, 5, dtype), running, batch)
        return can_compute_norm_act(x, norm._replace(**changed), act)

    x = torch.randn(2, 5, 4, 4)
    assert takes(x)
    assert takes(x.double())
    assert takes(x, kind='channel_wise')
    assert not takes(x[:0])
    assert not takes(x[:, :4])
    assert not takes(x.to(torch.complex64))
    assert not takes(x.to('meta'))
    assert not takes(x, weight=torch.ones(5).double())
    assert not takes(x, running_mean=torch.ones(4))
    assert not takes(x[:1, :, :1, :1])
    assert takes(x[:1, :, :1, :1], batch=False)
    assert not takes(x[:1], kind='channel_wise')
