"""What the Triton kernels compute, under triton's interpreter on the CPU.

`test_triton.py` runs this file in a process of its own: the interpreter has to be switched on
before triton is imported.
"""

import itertools
import math
import sys

import pytest
import torch

from acon_mm.ops import triton_kernel
from acon_mm.ops.autograd import acon_by_kernel

TRITON_CAME_WITH_THE_INTERFACE = 'triton' in sys.modules

import triton  # noqa: E402
from triton.runtime.interpreter import TensorHandle, interpreter_builder, tl  # noqa: E402

from acon_mm.ops import triton_device  # noqa: E402

ERROR = 0.0
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
# Shape, layout of the memory, one value of beta for each sample.
MAPS = [
    ((2, 3, 1, 1), 'contiguous', False),
    ((2, 3, 1, 1), 'contiguous', True),
    ((3, 5), 'contiguous', False),
    ((9, 67), 'contiguous', True),  # two tiles of channels
    ((2, 7, 13), 'strided', True),
    ((3, 5, 7, 7), 'contiguous', False),
    ((3, 5, 7, 7), 'contiguous', True),
    ((2, 70, 7, 7), 'channels last', True),
    ((2, 24, 3, 4), 'channels last', False),
    ((1, 1, 31, 37), 'contiguous', True),  # one channel of one sample
    ((1, 2, 41, 53), 'contiguous', False),  # several programs for a plane, each of several tiles
    ((2, 2, 37, 31), 'channels last', True),
    ((2, 3, 14, 6), 'strided', False),
    ((2, 8, 16, 16), 'contiguous', True),
    ((2, 4, 3, 2, 5), 'channels last', False),
    ((17, 6, 7, 7), 'contiguous', False),  # planes side by side
    ((40, 3, 2, 2), 'contiguous', False),
    ((2, 24, 4, 8), 'channels last', True),  # pixels side by side
]


def channels_last(x):
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def lay_out(x, layout):
    if layout == 'strided':
        return torch.stack([x, x], -1)[..., 0]
    return channels_last(x) if layout == 'channels last' else x.contiguous()


def draw(shape, dtype, per_sample=False, layout='contiguous', x_scale=3.0):
    """Return g, x, p1, p2 and beta as the kernels take them."""
    torch.manual_seed(0)
    n, c = shape[:2]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    p1, p2 = torch.randn(2, c, dtype=wide)
    beta = 2 * torch.randn((n, c) if per_sample else c, dtype=wide)
    g, x = torch.randn(shape, dtype=wide), x_scale * torch.randn(shape, dtype=wide)
    return g.to(dtype), lay_out(x.to(dtype), layout), p1, p2, beta


def closed_form(g, x, p1, p2, beta):
    """Return the value, the gradients and the size of the terms that each of them adds up."""
    as_map = (-1, x.size(1), *[1] * (x.dim() - 2))
    p1, p2, factor = (param.double().reshape(as_map) for param in (p1, p2, beta))
    g, x, d = g.double(), x.double(), p1 - p2
    z = factor * d * x
    s, rest = torch.sigmoid(z), torch.sigmoid(-z)
    t = s * rest

    def sums(dp1, dp2, dbeta):
        slopes = (dp.sum_to_size(p1.shape).flatten() for dp in (dp1, dp2))
        return *slopes, dbeta.sum_to_size(factor.shape).view(beta.shape)

    values = x * (d * s + p2), g * (p2 + d * (s + z * t))
    values += sums(g * x * (s + z * t), g * x * (rest - z * t), g * d**2 * x**2 * t)
    x, g, z, steepest = x.abs(), g.abs(), z.abs(), p1.abs() + p2.abs()
    sizes = x * steepest, g * steepest
    # A rounding of z changes exp(-z) by z roundings.
    zt = z * t * (1 + z)
    sizes += sums(g * x * (s + zt), g * x * (rest + zt), g * d**2 * x**2 * t * (1 + z))
    return values, sizes


def assert_equal_but_for_rounding(actual, expected, size, compute):
    """Allow a few roundings of the terms in the compute dtype and one of the result in its own.

    Digits of subnormal numbers get lost as well: in float16 in the result, else in the terms.
    """
    own, wide = torch.finfo(actual.dtype), torch.finfo(compute)
    allowed = own.eps * expected.abs() + 8 * wide.eps * size
    allowed += max(own.smallest_normal * own.eps, 1e3 * wide.smallest_normal)
    wrong = (actual.double() - expected).abs() > allowed
    assert not wrong.any() and actual.isfinite().all(), (actual[wrong], expected[wrong])


def check(g, x, p1, p2, beta):
    """Compare both kernels with the closed form."""
    y = triton_kernel.forward(x, p1, p2, beta)
    grads = triton_kernel.backward(g, x, p1, p2, beta)
    for result, of in zip((y, *grads), (x, x, p1, p2, beta), strict=True):
        assert result.dtype == of.dtype and result.shape == of.shape
    expected, sizes = closed_form(g, x, p1, p2, beta)
    for result in zip((y, *grads), expected, sizes, strict=True):
        assert_equal_but_for_rounding(*result, p1.dtype)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize(('shape', 'layout', 'per_sample'), MAPS)
def test_value_and_gradients_equal_the_closed_form(shape, layout, per_sample, dtype):
    check(*draw(shape, dtype, per_sample, layout))


def leaves(*tensors):
    return [t.double().requires_grad_() for t in tensors]


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize(
    ('shape', 'layout'),
    [
        ((3, 5, 7, 7), 'contiguous'),
        ((17, 6, 7, 7), 'contiguous'),
        ((2, 24, 3, 4), 'channels last'),
        ((2, 3, 14, 6), 'strided'),
    ],
)
def test_pixel_wise_and_the_maximum_of_two_equal_what_autograd_gives(shape, layout, dtype):
    g, x, p1, p2, _ = draw(shape, dtype, layout=layout)
    other = torch.randn(shape).to(dtype)
    own, *slopes = leaves(x, p1, p2)
    a1, a2 = (p.view(1, -1, 1, 1) for p in slopes)
    y = (a1 - a2) * own * torch.sigmoid(torch.sigmoid(own) * (a1 - a2) * own) + a2 * own
    right = [y.detach(), *torch.autograd.grad(y, [own, *slopes], g.double())]
    found = [triton_kernel.forward(x, p1, p2, None), *triton_kernel.backward(g, x, p1, p2, None)]
    assert found.pop() is None
    pair = leaves(x, other)
    both = torch.stack(pair)
    y = (torch.softmax(both, 0) * both).sum(0)
    right += [y.detach(), *torch.autograd.grad(y, pair, g.double())]
    found += [
        triton_kernel.maximum_forward(x, other),
        *triton_kernel.maximum_backward(g, x, other),
    ]
    rounding = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 1e-2)
    for value, expected in zip(found, right, strict=True):
        assert value.isfinite().all()
        scale = expected.abs().max()
        assert (value.double() - expected).abs().max() <= rounding * scale
    assert found[0].stride() == found[1].stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_extreme_inputs_keep_the_digits_of_small_derivatives(dtype):
    """Every element has a channel to itself, so that none is lost in a sum."""
    x = torch.tensor([1e-4, 0.1, 1, 4, 10, 30, 60, 300, 1e4], dtype=dtype)
    x = torch.cat([-x, x])[None, :, None]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    p1, p2, beta = (torch.full((18,), v, dtype=wide) for v in (1.2, -0.8, 0.5))
    check(torch.ones_like(x), x, p1, p2, beta)


def test_half_precision_gradients_survive_a_loss_scale():
    g, *args = draw((2, 3, 9, 9), torch.float16, x_scale=1e4)
    check((8192 * g.clamp(-4, 4)).half(), *args)


def test_infinite_inputs_give_the_limits():
    inf = torch.inf
    x = torch.tensor([[[-inf], [inf]]])
    p1, p2, beta = torch.full((2,), 1.5), torch.full((2,), -0.5), torch.ones(2)
    assert triton_kernel.forward(x, p1, p2, beta).flatten().tolist() == [inf, inf]
    dx, dp1, dp2, dbeta = triton_kernel.backward(torch.ones_like(x), x, p1, p2, beta)
    assert dx.flatten().tolist() == [-0.5, 1.5]
    # The value is p2 * x below and p1 * x above.
    assert dp1.tolist() == [0, inf]
    assert dp2.tolist() == [-inf, 0]
    assert dbeta.tolist() == [0, 0]


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_gradients_at_infinity_are_the_limits(dtype):
    """One channel for each case, as for the other kernels."""
    inf, nan = torch.inf, torch.nan
    slopes = [(1, 0), (0, 1), (2, 0.5), (-2, 0.5), (1.5, -0.5), (-0.5, -1), (0.5, 0.5)]
    cases = [(x, *p, b) for x in (inf, -inf) for p in slopes for b in (1, -2, 0)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, *params = torch.tensor(cases, dtype=wide).t().contiguous()
    x = x.to(dtype)[None, :, None].contiguous()
    found = triton_kernel.backward(torch.ones_like(x), x, *params)
    for grads, (x, p1, p2, beta) in zip(
        zip(*(f.flatten().tolist() for f in found), strict=True), cases, strict=True
    ):
        z = beta * (p1 - p2) * x
        expected = [p1, x, 0, 0] if z > 0 else [p2, 0, x, 0] if z < 0 else [nan] * 4
        assert list(grads) == pytest.approx(expected, nan_ok=True), (x, p1, p2, beta)


def test_a_gradient_that_is_not_a_number_is_not_hidden():
    """A loss scaler looks for it, also where the derivative is 0."""
    x = torch.full((1, 2, 3), -1e4)
    g = torch.full_like(x, torch.nan)
    params = torch.ones(2), torch.zeros(2), torch.ones(2)
    assert all(grad.isnan().all() for grad in triton_kernel.backward(g, x, *params))


@pytest.mark.parametrize('shape', [(0, 3, 4, 4), (0, 3), (2, 3, 0, 4), (2, 0, 4)])
@pytest.mark.parametrize('per_sample', [False, True])
def test_an_empty_map_has_no_value_and_no_gradient(shape, per_sample):
    g, x, p1, p2, beta = draw(shape, torch.float16, per_sample)
    assert triton_kernel.forward(x, p1, p2, beta).shape == shape
    dx, *grads = triton_kernel.backward(g, x, p1, p2, beta)
    assert dx.shape == shape and dx.dtype == x.dtype
    for grad, param in zip(grads, (p1, p2, beta), strict=True):
        assert torch.equal(grad, torch.zeros_like(param))


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('layout', ['contiguous', 'channels last'])
@pytest.mark.parametrize('numbers', range(1, 8))
def test_numbers_give_what_tensors_of_one_value_give(numbers, layout, dtype):
    g, x, *params = draw((2, 5, 6, 9), dtype, layout=layout)
    given = [1.25, 0.3, -0.7]
    for i in range(3):
        if numbers >> i & 1:
            params[i] = torch.full_like(params[i], given[i])
        else:
            given[i] = params[i]
    assert torch.equal(triton_kernel.forward(x, *given), triton_kernel.forward(x, *params))
    found, expected = (triton_kernel.backward(g, x, *each) for each in (given, params))
    for grad, right, param in zip(found, expected, (x, *given), strict=True):
        if isinstance(param, float):
            assert grad is None
        else:
            assert torch.equal(grad, right)
    of_nothing = triton_kernel.backward(g[:0], x[:0], *given)[1:]
    for grad, param in zip(of_nothing, given, strict=True):
        assert grad is None if isinstance(param, float) else torch.equal(grad, 0 * param)


@pytest.mark.parametrize('dtype', DTYPES[:3], ids=str)
def test_numbers_cost_no_tensor(dtype, monkeypatch):
    x = torch.randn(2, 3, 4, 5).to(dtype).requires_grad_()
    made = []
    for name in ('empty', 'empty_like', 'full', 'zeros', 'tensor'):
        make = getattr(torch, name)

        def counted(*args, name=name, make=make, **kwargs):
            made.append(name)
            return make(*args, **kwargs)

        monkeypatch.setattr(torch, name, counted)
    g = x.detach().clone()
    y = acon_by_kernel(triton_kernel, x, 1.0, 0.0, 1.0)
    torch.autograd.grad(y, x, g)
    assert made == ['empty_like'] * 2
    acon_by_kernel(triton_kernel, x, 1.0, 0.0, g[0, :, 0, 0].float())
    with torch.no_grad():
        acon_by_kernel(triton_kernel, x, 1.0, 0.0, 1.0)
    assert made == ['empty_like'] * 4


@pytest.mark.parametrize('layout', ['contiguous', 'channels last'])
def test_an_incoming_gradient_may_have_any_strides_and_dtype(layout):
    g, *args = draw((2, 3, 5, 7), torch.float16, layout=layout)
    row = torch.randn(7).half()
    for strange, dense in [
        (row.expand(2, 3, 5, 7), row.repeat(2, 3, 5, 1)),
        (channels_last(g), g),
        (lay_out(g, 'strided'), g),
        (g.float(), g),
    ]:
        results = (triton_kernel.backward(each, *args) for each in (strange, dense))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_shared_switching_factor_may_have_a_sample_dimension():
    g, x, p1, p2, beta = draw((4, 3, 5, 7), torch.float32)
    check(g, x, p1, p2, beta[None])


def test_parameters_may_have_any_strides():
    g, x, p1, p2, _ = draw((4, 3, 5, 7), torch.float32)
    beta = torch.randn(4, 1).expand(4, 3)
    check(g, x, torch.stack([p1, p2])[0], torch.stack([p1, p2], 1)[:, 1], beta)
    check(g, x, p1, p2[:1].expand(3), torch.randn(3, 4).t())


@pytest.mark.parametrize(
    ('x', 'copied'),
    [
        (torch.randn(2, 3, 4, 5), False),
        (channels_last(torch.randn(2, 3, 4, 5)), False),
        (channels_last(torch.randn(2, 3, 4)), False),
        (channels_last(torch.randn(2, 3, 4, 5, 2)), False),
        (channels_last(torch.randn(2, 3, 1, 1)), False),
        (torch.randn(3, 2).t(), False),
        (torch.randn(2, 3, 4, 10)[..., ::2], True),
        (torch.randn(3, 1, 5).expand(3, 4, 5), True),
        (channels_last(torch.randn(2, 6, 4, 5))[:, 2:5], True),
    ],
)
def test_results_have_the_strides_of_those_of_torch(x, copied):
    c = x.size(1)
    params = torch.ones(c), torch.zeros(c), torch.ones(c)
    silu = torch.nn.functional.silu(x)
    assert (silu.stride() != x.stride()) == copied
    for result, expected in (
        (triton_kernel.forward(x, *params), silu),
        (triton_kernel.backward(torch.ones_like(x), x, *params)[0], closed_form_dx(x)),
    ):
        assert result.stride() == silu.stride()
        torch.testing.assert_close(result, expected)


def closed_form_dx(x):
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def test_negated_views_are_what_they_show():
    g, x, *params = draw((2, 3, 5, 7), torch.float32)
    negated = [torch._neg_view(tensor) for tensor in (g, x, *params)]
    assert all(tensor.is_neg() for tensor in negated)
    check(*negated)


@pytest.mark.parametrize('needed', list(itertools.product([False, True], repeat=4)))
def test_what_is_not_needed_is_not_computed(needed, monkeypatch):
    g, x, *params = draw((2, 3, 5, 7), torch.float32, per_sample=True)
    full = triton_kernel.backward(g, x, *params)
    make, made = torch.empty, []
    monkeypatch.setattr(torch, 'empty', lambda *a, **kw: made.append(a) or make(*a, **kw))
    for grad, expected, need in zip(
        triton_kernel.backward(g, x, *params, needed), full, needed, strict=True
    ):
        assert torch.equal(grad, expected) if need else grad is None
    assert len(made) == any(needed[1:])  # the sums


def test_an_infinite_switching_factor_gives_the_larger_line():
    for shape in [(2, 3, 5, 7), (17, 3, 7, 7)]:  # tiles with tails
        g, x, p1, p2, _ = draw(shape, torch.float32)
        beta = torch.full((3,), torch.inf)
        y = triton_kernel.forward(x, p1, p2, beta)
        steps = [p.view(-1, *[1] * 2) for p in (p1, p2)]
        torch.testing.assert_close(y, torch.maximum(*(p * x for p in steps)))
        dx, dp1, dp2, dbeta = triton_kernel.backward(g, x, p1, p2, beta)
        first = (steps[0] - steps[1]) * x > 0
        torch.testing.assert_close(dx, g * torch.where(first, *steps))
        for found, of in ((dp1, first), (dp2, ~first)):
            torch.testing.assert_close(found, (g * x * of).sum((0, 2, 3)), rtol=1e-4, atol=1e-4)
        assert dbeta.tolist() == [0, 0, 0]


@triton.jit
def exp2_off(x):
    return tl.where(x < -126, 0.0, tl.exp2(x) * (1 + ERROR))


@triton.jit
def exp2_of_minus_off(x):
    return exp2_off(-x)


@triton.jit
def exp2_of_minus_abs_off(x):
    return exp2_off(-tl.abs(x))


@triton.jit
def reciprocal_off(x):
    return (1 / x) * (1 + ERROR / 2)


@pytest.mark.parametrize('error', [2**-22, -(2**-22)])
def test_what_approximate_instructions_err_by_is_within_the_bounds(error, monkeypatch):
    monkeypatch.setitem(globals(), 'ERROR', error)
    monkeypatch.setattr(triton_device, '_exp2_of_minus', exp2_of_minus_off)
    monkeypatch.setattr(triton_device, '_exp2_of_minus_abs', exp2_of_minus_abs_off)
    monkeypatch.setattr(triton_device, '_reciprocal', reciprocal_off)
    test_value_and_gradients_equal_the_closed_form((3, 5, 7, 7), 'contiguous', True, torch.float32)
    test_extreme_inputs_keep_the_digits_of_small_derivatives(torch.float32)


def test_grids_that_are_too_large_are_computed_all_the_same(monkeypatch):
    monkeypatch.setattr(triton_kernel, '_GRID_LIMIT', 2)
    triton_kernel.tile.cache_clear()
    check(*draw((3, 5, 7, 9), torch.float32, True))
    triton_kernel.tile.cache_clear()


@pytest.mark.parametrize('layout', ['contiguous', 'channels last'])
def test_every_element_is_written_so_that_two_runs_give_the_same_bits(layout, monkeypatch):
    args = draw((1, 2, 41, 53), torch.float32, layout=layout)
    runs = []
    for rubbish in (torch.nan, 1.0):
        for name in ('empty', 'empty_like'):
            make = getattr(torch, name)

            def filled(*shape, make=make, rubbish=rubbish, **kwargs):
                return make(*shape, **kwargs).fill_(rubbish)

            monkeypatch.setattr(torch, name, filled)
        runs.append([triton_kernel.forward(*args[1:]), *triton_kernel.backward(*args)])
        monkeypatch.undo()
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize('layout', ['contiguous', 'channels last'])
def test_maps_of_more_than_two_to_the_31_elements_are_reached(layout, tmp_path, monkeypatch):
    """Run the last program of a huge map whose memory, but for the end, is never touched."""
    length, channels = 2**30 + 1024, 2

    def huge(name):
        size = length * channels
        flat = torch.from_file(str(tmp_path / name), True, size, dtype=torch.float16)
        (tmp_path / name).unlink()  # the memory stays until the tensor goes
        if layout == 'channels last':
            return flat.view(1, length, channels).movedim(-1, 1)
        return flat.view(1, channels, length)

    x, g, y, dx = (huge(name) for name in ('x', 'g', 'y', 'dx'))
    x[0, 1, -9:], g[0, 1, -9:] = torch.linspace(-4, 4, 9), 1.0
    small = [torch.full((2,), v) for v in (1.2, -0.8, 1.0)]
    tiling = triton_kernel.tile(x.shape, 2, layout == 'channels last', True)
    last = [math.ceil(length / tiling.constants['block_length']) - 1, tiling.grid[1] - 1, 0]

    def as_handle(number):
        return TensorHandle(torch.tensor([number], dtype=torch.int32).numpy(), tl.int32)

    monkeypatch.setattr(
        interpreter_builder, 'create_get_program_id', lambda axis: as_handle(last[axis])
    )
    programs = [last[0] + 1, last[1] + 1, 1]
    monkeypatch.setattr(
        interpreter_builder, 'create_get_num_programs', lambda axis: as_handle(programs[axis])
    )
    # The interpreter copies every tensor back, here onto itself.
    monkeypatch.setattr(torch.UntypedStorage, 'copy_', lambda self, source: self)
    splits = math.ceil(length / tiling.constants['block_length'])
    sums = torch.zeros(3, splits, channels)
    needs = dict.fromkeys(('need_dx', 'need_p1', 'need_p2', 'need_beta'), True)
    sizes, constants = (*tiling.sizes[:-1], 1), {**tiling.constants, 'numbers': 0}
    triton_device.acon_forward[(1,)](x, *small, y, *sizes, **constants)
    triton_device.acon_backward[(1,)](g, x, *small, dx, sums, *sizes, **constants, **needs)
    end = x[:, 1:, -9:].contiguous()
    one = [param[1:] for param in small]
    (value, slope, *expected), _ = closed_form(torch.ones_like(end), end, *one)
    torch.testing.assert_close(y[:, 1:, -9:], value.half())
    torch.testing.assert_close(dx[:, 1:, -9:], slope.half())
    torch.testing.assert_close(sums[:, -1, 1], torch.cat(expected).float())


def test_kernels_are_launched_on_the_device_of_the_input(monkeypatch):
    guarded, launched = [], []

    class Guard:
        def __init__(self, tensor):
            self.tensor = tensor

        def __enter__(self):
            guarded.append(self.tensor)

        def __exit__(self, *error):
            guarded.pop()

    def spy(kernel):
        class Kernel:
            def __getitem__(self, grid):
                launched.append(guarded[-1].data_ptr())
                return kernel[grid]

        return Kernel()

    monkeypatch.setattr(torch.cuda, 'device_of', Guard)
    for name in ('acon_forward', 'acon_backward'):
        monkeypatch.setattr(triton_device, name, spy(getattr(triton_device, name)))
    g, x, *params = draw((2, 3, 4), torch.float32)
    triton_kernel.forward(x, *params)
    triton_kernel.backward(g, x, *params)
    assert launched == [x.data_ptr()] * 2


def test_the_interface_can_be_imported_without_triton():
    assert not TRITON_CAME_WITH_THE_INTERFACE
