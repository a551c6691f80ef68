"""Norm and activation by the Triton kernels, under triton's interpreter, as `triton_interpreted`.

What they compute is compared with torch's operations in float64.
"""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from acon_mm.ops import norm_act, triton_kernel, triton_norm
from acon_mm.ops.norm_act import Activation, Norm, NormedLayer

KINDS = ['relu', 'acon', 'channel_wise', 'layer_wise']
EPS = 1e-5


def channels_last(x):
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def statistics(size, dtype):
    return torch.randn(size, dtype=dtype), torch.rand(size, dtype=dtype) + 0.5


def draw(shape, kind, dtype=torch.float32, layout='contiguous', batch=True, inner=None, mean=0.0):
    """Return g, x, a norm and an activation."""
    torch.manual_seed(0)
    c = shape[1]
    hidden = max(4, c // 4)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, g = (torch.randn(shape, dtype=wide) + mean).to(dtype), torch.randn(shape).to(dtype)
    x = channels_last(x) if layout == 'channels last' else x
    norm = Norm(*torch.randn(2, c, dtype=wide), *statistics(c, wide), 0.1, EPS, batch)
    params = list(torch.randn({'relu': 0, 'acon': 3}.get(kind, 2), c, dtype=wide))
    layers = [
        NormedLayer(
            torch.randn(o, i, 1, 1) / i**0.5, *torch.randn(3, o), *statistics(o, wide), 0.2, 1e-3
        )
        for i, o in ((c, hidden), (hidden, c))
    ]
    if kind != 'channel_wise':
        layers = []
    return g, x, norm, Activation(kind, params, layers, batch if inner is None else inner)


def arguments(x, norm, act):
    return [
        x,
        *(norm[:2] if norm else (None, None)),
        *act.params,
        *(t for layer in act.layers for t in layer[:4]),
    ]


def by_torch(args, norm, act):
    """Return the value by torch's operations."""
    y, weight, bias, *rest = args
    params, layers = rest[: len(act.params)], rest[len(act.params) :]
    if norm:
        running = (None, None) if norm.use_batch_stats else (t.double() for t in norm[2:4])
        y = F.batch_norm(y, *running, weight, bias, norm.use_batch_stats, 0.0, norm.eps)
    if act.kind == 'relu':
        return torch.relu(y)
    ones = (1,) * (y.dim() - 2)
    p1, p2, *beta = (p.view(-1, *ones) if isinstance(p, Tensor) else p for p in params)
    means = y.flatten(2).mean(2)
    if act.kind == 'layer_wise':
        beta = [torch.sigmoid(means.sum(1)).view(-1, 1, *ones)]
    if act.kind == 'channel_wise':
        for i, layer in enumerate(act.layers):
            weight, bias, *of_norm = layers[4 * i : 4 * i + 4]
            running = (None, None) if act.use_batch_stats else (t.double() for t in layer[4:6])
            means = F.linear(means, weight.flatten(1), bias)
            means = F.batch_norm(means, *running, *of_norm, act.use_batch_stats, 0.0, layer.eps)
        beta = [torch.sigmoid(means).view(*means.shape, *ones)]
    d = p1 - p2
    return y * (d * torch.sigmoid(beta[0] * d * y) + p2)


def close(found, expected, allowed):
    """Compare the error with the largest element."""
    if expected is None:
        assert found is None
        return
    scale = expected.abs().max() + 0.1  # the gradient of a bias before a norm is 0
    assert found.isfinite().all() and found.shape == expected.shape
    assert ((found.double() - expected).abs().max() / scale).item() < allowed


def check(g, x, norm, act, allowed):
    args = arguments(x, norm, act)
    leaves = [a.detach().double().requires_grad_() if isinstance(a, Tensor) else a for a in args]
    expected = by_torch(leaves, norm, act)
    wanted = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    grads = iter(torch.autograd.grad(expected, wanted, g.double()))
    y, *kept = triton_norm.norm_act_forward(x, norm, act)
    assert y.dtype == x.dtype and y.stride() == torch.empty_like(x).stride()
    close(y, expected.detach(), allowed)
    found = triton_norm.norm_act_backward(g, args, kept, norm, act, True)
    assert len(found) == len(args) and found[0].dtype == x.dtype
    for grad, arg in zip(found, args, strict=True):
        close(grad, next(grads) if isinstance(arg, Tensor) else None, allowed)
    return y, found


# Half of all combinations: each kind has all pairs of the others, two kinds have the same triples
SHAPES = [(12, 24, 4, 6), (6, 2, 23, 47), (9, 3, 1, 1)]
CASES = [
    (KINDS[i], SHAPES[j], ('contiguous', 'channels last')[layout], batch)
    for i, j, layout, batch in itertools.product(range(4), range(3), range(2), (True, False))
    if (i + j + layout + batch) % 2
]


@pytest.mark.parametrize(('kind', 'shape', 'layout', 'batch'), CASES)
def test_value_and_gradients_equal_those_of_torch(kind, shape, layout, batch):
    # Norms over five samples inside Meta-ACON enlarge the roundings of the means.
    check(*draw(shape, kind, layout=layout, batch=batch), 2e-3 if kind == 'channel_wise' else 1e-5)


@pytest.mark.parametrize(
    ('dtype', 'allowed'),
    [(torch.bfloat16, 1e-2), (torch.float16, 1e-3), (torch.float64, 1e-12)],
    ids=str,
)
@pytest.mark.parametrize('kind', KINDS)
def test_other_dtypes_do(kind, dtype, allowed):
    g, x, norm, act = draw((6, 5, 7, 9), kind, dtype)
    if not triton_norm.can_compute(x, kind):
        assert kind == 'channel_wise' and dtype == torch.float64
        return
    check(g, x, norm, act, allowed)


@pytest.mark.parametrize('kind', KINDS)
def test_a_mean_of_a_thousand_times_the_spread_costs_no_digits_but_those_of_x(kind):
    check(*draw((6, 3, 13, 17), kind, mean=1000.0), 2e-3)


@pytest.mark.parametrize('layout', ['contiguous', 'channels last'])
@pytest.mark.parametrize('kind', ['acon', 'channel_wise'])
def test_running_statistics_are_those_of_torch(kind, layout):
    _, x, norm, act = draw((6, 5, 17, 39), kind, layout=layout, mean=30.0)
    stats = [t.clone() for t in norm[2:4]]
    inner = [[t.clone() for t in layer[4:6]] for layer in act.layers]
    y = F.batch_norm(x, *stats, *norm[:2], True, norm.momentum, norm.eps)
    means = y.flatten(2).mean(2)
    for layer, running in zip(act.layers, inner, strict=True):
        means = F.linear(means, layer.weight.flatten(1), layer.bias)
        means = F.batch_norm(means, *running, *layer[2:4], True, layer.momentum, layer.eps)
    _, used, *_ = triton_norm.norm_act_forward(x, norm, act)
    torch.testing.assert_close(used[0], x.movedim(1, 0).flatten(1).mean(1))
    torch.testing.assert_close(list(norm[2:4]), stats)
    for layer, running in zip(act.layers, inner, strict=True):
        torch.testing.assert_close(list(layer[4:6]), running, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_a_norm_may_have_neither_parameters_nor_running_statistics(kind):
    g, x, norm, act = draw((6, 5, 7, 9), kind)
    bare = norm._replace(weight=None, bias=None, running_mean=None, running_var=None)
    check(g, x, bare, act, 2e-4)


@pytest.mark.parametrize('kind', ['channel_wise', 'layer_wise'])
@pytest.mark.parametrize('inner', [True, False])
def test_meta_acon_needs_no_norm_before_it(kind, inner):
    g, x, _, act = draw((6, 5, 7, 9), kind, inner=inner)
    check(g, x, None, act, 2e-4)


def test_a_weight_of_zero_has_a_gradient():
    g, x, norm, act = draw((6, 5, 7, 9), 'acon')
    norm.weight[1:3] = 0
    check(g, x, norm, act, 2e-4)


@pytest.mark.parametrize('batch', [True, False])
def test_numbers_are_parameters_without_gradients(batch):
    g, x, norm, act = draw((6, 5, 7, 9), 'acon', batch=batch)
    for params in [(1.0, 0.0, 1.0), (1.25, act.params[1], 0.5)]:
        check(g, x, norm, act._replace(params=params), 2e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_slices_negated_views_and_other_layouts_of_g_are_read_as_they_are(kind):
    g, x, norm, act = draw((6, 8, 7, 9), kind)
    y, grads = check(g, x, norm, act, 2e-3)
    slice_of = channels_last(torch.cat([x, x], 1))[:, :8]
    for strange in (slice_of, torch._neg_view(-x), torch.stack([x, x], -1)[..., 0]):
        got, found = check(channels_last(g), strange, norm, act, 2e-3)
        torch.testing.assert_close(got, y, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[0], grads[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('batch', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_two_runs_give_the_same_bits_whatever_the_memory_held(kind, batch, monkeypatch):
    runs = []
    for rubbish in (torch.nan, 1.0):
        g, x, norm, act = draw((6, 3, 11, 13), kind, batch=batch)
        make = torch.empty_like
        monkeypatch.setattr(
            torch, 'empty_like', lambda *a, make=make, r=rubbish, **k: make(*a, **k).fill_(r)
        )
        new = Tensor.new_empty
        monkeypatch.setattr(
            Tensor, 'new_empty', lambda *a, new=new, r=rubbish, **k: new(*a, **k).fill_(r)
        )
        y, *kept = triton_norm.norm_act_forward(x, norm, act)
        args = arguments(x, norm, act)
        runs.append([y, *kept, *triton_norm.norm_act_backward(g, args, kept, norm, act, True)])
        monkeypatch.undo()
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(*runs, strict=True))


def test_gradients_of_layers_have_the_strides_of_their_weights():
    g, x, norm, act = draw((6, 24, 3, 3), 'channel_wise')
    layers = [
        layer._replace(weight=layer.weight.to(memory_format=torch.channels_last))
        for layer in act.layers
    ]
    act = act._replace(layers=layers)
    _, found = check(g, x, norm, act, 2e-4)
    for grad, weight in zip((found[5], found[9]), (layer.weight for layer in layers), strict=True):
        assert grad.stride() == weight.stride()


def test_no_gradient_of_x_is_written_where_none_is_needed():
    g, x, norm, act = draw((6, 5, 7, 9), 'channel_wise')
    _, *kept = triton_norm.norm_act_forward(x, norm, act)
    args = arguments(x, norm, act)
    with_dx, without = (
        triton_norm.norm_act_backward(g, args, kept, norm, act, need) for need in (True, False)
    )
    assert without[0] is None
    assert all(torch.equal(a, b) for a, b in zip(with_dx[1:], without[1:], strict=True))


def test_more_samples_than_a_program_holds_and_too_large_grids_are_refused(monkeypatch):
    x = torch.empty(257, 3, 2, 2)
    assert not triton_norm.can_compute(x, 'channel_wise')
    assert triton_norm.can_compute(x[:256], 'channel_wise')
    assert triton_norm.can_compute(x, 'layer_wise')
    monkeypatch.setattr(triton_kernel, '_GRID_LIMIT', 200)
    triton_kernel.tile.cache_clear()
    assert not triton_norm.can_compute(x, 'layer_wise')
    triton_kernel.tile.cache_clear()


@pytest.mark.parametrize('numbers', [False, True], ids=['tensors', 'numbers'])
@pytest.mark.parametrize('kind', KINDS)
def test_the_autograd_function_runs_these_kernels(kind, numbers, monkeypatch):
    monkeypatch.setattr(norm_act, 'choose_kernel', lambda x: triton_kernel)
    g, x, norm, act = draw((6, 8, 5, 7), kind)
    if numbers and kind == 'acon':
        act = act._replace(params=(1.0, 0.0, act.params[2]))
    args = [
        a.clone().requires_grad_() if isinstance(a, Tensor) else a for a in arguments(x, norm, act)
    ]
    leaves = [a.detach().double().requires_grad_() if isinstance(a, Tensor) else a for a in args]
    expected = by_torch(leaves, norm, act)
    params, layers = args[3 : 3 + len(act.params)], args[3 + len(act.params) :]
    act = act._replace(
        params=params,
        layers=[
            NormedLayer(*layers[4 * i : 4 * i + 4], *layer[4:])
            for i, layer in enumerate(act.layers)
        ],
    )
    norm = norm._replace(weight=args[1], bias=args[2])
    assert norm_act.can_compute_norm_act(args[0], norm, act)
    y = norm_act.norm_act(args[0], norm, act)
    close(y.detach(), expected.detach(), 1e-5)
    wanted = [[a for a in some if isinstance(a, Tensor)] for some in (args, leaves)]
    found = torch.autograd.grad(y, wanted[0], g)
    for grad, of_torch in zip(found, torch.autograd.grad(expected, wanted[1], g), strict=True):
        close(grad, of_torch, 1e-4)
