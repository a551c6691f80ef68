"""Each kernel that runs on the CPU equals the closed form in float64."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from acon_mm.ops import acon, cpu_kernel, plain_kernel
from acon_mm.ops.formula import acon_formula

sys.path.insert(0, str(Path(__file__).parent))
from closed_form import closed_form

KERNELS = [
    pytest.param(plain_kernel, id='plain'),
    pytest.param(
        cpu_kernel,
        id='cpu',
        marks=pytest.mark.skipif(
            cpu_kernel.why_unavailable() is not None, reason=str(cpu_kernel.why_unavailable())
        ),
    ),
]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = [
    (3, 5),  # no pixels
    (2, 3, 1, 1),
    (1, 1, 1, 1),
    (0, 3, 4, 4),
    (5, 7, 11),
    (2, 1, 13, 17),
    (8, 37, 7, 7),  # small planes of several channels in a row
    (2, 24, 33, 31),  # 24 channels are one vector and a half
    (33, 5, 2, 2),  # more samples than a task takes
    (2, 3, 131, 127),  # more pixels than a task takes
    (3, 4, 2, 3, 5),
]
# Of a value, in relation to it and to its input: a few units in the last place of the dtype.
ROUNDING = {torch.float32: 5e-7, torch.float64: 1e-15, torch.bfloat16: 4e-3, torch.float16: 5e-4}


def draw(shape, dtype, per_sample, scale=3.0):
    n, c = shape[:2]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    torch.manual_seed(sum(shape))
    x, g = scale * torch.randn(shape), torch.randn(shape)
    params = torch.randn(2, c, dtype=wide), torch.randn(*((n, c) if per_sample else (c,)))
    return g.to(dtype), x.to(dtype), *params[0], params[1].to(wide)


def assert_equals_closed_form(kernel, g, x, p1, p2, beta):
    y = kernel.forward(x, p1, p2, beta)
    found = kernel.backward(g, x, p1, p2, beta)
    expected = closed_form(g, x, p1, p2, beta)
    assert y.dtype == found[0].dtype == x.dtype
    rounding = ROUNDING[x.dtype]
    tiny = torch.finfo(x.dtype).tiny
    slope = 1 + p1.double().abs().max() + p2.double().abs().max() if p1.numel() else 1
    for value, wanted, scale in ((y, expected.y, x), (found[0], expected.dx, g)):
        assert value.shape == x.shape
        bound = rounding * (wanted.abs() + slope * scale.double().abs()) + tiny
        assert ((value.double() - wanted).abs() <= bound).all()
    for value, param, name in zip(found[1:], (p1, p2, beta), ('p1', 'p2', 'beta'), strict=True):
        assert value.shape == param.shape
        assert value.dtype == param.dtype
        # Sums of float32 also for 16-bit maps, so their tolerance is that of float32. Where z is
        # large, exp(z) has |z| times its relative error.
        accuracy = 1e-13 if x.dtype == torch.float64 else 1e-5
        error = (value.double() - expected.sums[name]).abs()
        assert (error <= accuracy * expected.magnitudes[name] + tiny).all()


@pytest.mark.parametrize('per_sample', [False, True], ids=['shared', 'per_sample'])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('kernel', KERNELS)
def test_value_and_gradients_equal_the_closed_form(kernel, shape, dtype, per_sample):
    g, x, *params = draw(shape, dtype, per_sample)
    assert_equals_closed_form(kernel, g, x, *params)
    if x.dim() in (4, 5) and x.numel() > 0:
        last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        g, x = (tensor.to(memory_format=last) for tensor in (g, x))
        assert_equals_closed_form(kernel, g, x, *params)
        assert kernel.forward(x, *params).is_contiguous(memory_format=last)
        assert kernel.backward(g, x, *params)[0].is_contiguous(memory_format=last)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('kernel', KERNELS)
def test_any_strides_of_input_and_gradient_are_taken(kernel, dtype):
    g, x, p1, p2, beta = draw((4, 6, 9, 10), dtype, False)
    last = g.to(memory_format=torch.channels_last)
    for other in (last, g.transpose(2, 3).contiguous().transpose(2, 3)):
        assert_equals_closed_form(kernel, other, x, p1, p2, beta)
    assert_equals_closed_form(kernel, g, x[:, ::2].repeat_interleave(2, 1), p1, p2, beta)
    every_other = x[:, ::2, 1:, ::3]
    expanded = torch.ones((), dtype=dtype).expand(every_other.shape)
    params = (p[::2] for p in (p1, p2, beta))
    assert_equals_closed_form(kernel, expanded, every_other, *params)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize('dtype', DTYPES[:3], ids=str)
@pytest.mark.parametrize('kernel', KERNELS)
def test_arguments_of_the_sigmoid_up_to_1e4_overflow_nothing(kernel, dtype, layout):
    x = torch.linspace(-1e4, 1e4, 4 * 3 * 50).view(4, 3, 10, 5).to(dtype)
    x = x.contiguous(memory_format=layout)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    p1, p2, beta = torch.tensor([[1.0, 0, 2], [0.0, 1, -1], [1.0, -1, 0.01]], dtype=wide)
    assert_equals_closed_form(kernel, torch.ones_like(x), x, p1, p2, beta)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('kernel', KERNELS)
def test_infinities_become_infinities_of_the_sign_of_their_slope(kernel, dtype):
    inf = float('inf')
    x = torch.tensor([inf, -inf, 1.0, 0.0], dtype=dtype).view(4, 1).expand(4, 2).contiguous()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    p1, p2, beta = torch.tensor([[2.0, -2.0], [0.5, 0.5], [1.0, 1.0]], dtype=wide)
    y = kernel.forward(x, p1, p2, beta)
    # Where d < 0 the smaller slope is that of large x: the smooth maximum is the larger line.
    assert y[:2].tolist() == [[inf, inf], [-inf, inf]]
    g = torch.ones_like(x)
    dx, _, _, dbeta = kernel.backward(g, x, p1, p2, beta)
    assert dx[:2].tolist() == [[2.0, 0.5], [0.5, -2.0]]
    of_finite = kernel.backward(g[2:].contiguous(), x[2:].contiguous(), p1, p2, beta)[3]
    torch.testing.assert_close(dbeta, of_finite)


def gradients_at_infinity(x, p1, p2, beta):
    """The limits of x * h and so on, with h -> 1 for z -> inf and h -> 0 for z -> -inf."""
    z = beta * (p1 - p2) * x
    if z > 0:
        return [p1, x, 0, 0]
    return [p2, 0, x, 0] if z < 0 else [float('nan')] * 4


@pytest.mark.parametrize('dims', [2, 3, 4])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('kernel', [*KERNELS, pytest.param(None, id='twice')])
def test_gradients_at_infinity_are_the_limits(kernel, dtype, dims):
    """One channel for each case; None stands for a backward pass that is differentiated again."""
    inf = float('inf')
    slopes = [(1, 0), (0, 1), (2, 0.5), (-2, 0.5), (1.5, -0.5), (-0.5, -1), (0.5, 0.5)]
    cases = [(x, *p, b) for x in (inf, -inf) for p in slopes for b in (1, -2, 0)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, *params = torch.tensor(cases, dtype=wide).t().contiguous()
    x = x.to(dtype).view(1, -1, *[1] * (dims - 2)).clone()
    g = torch.ones_like(x)
    if kernel is None:
        args = [arg.requires_grad_() for arg in (x, *params)]
        found = torch.autograd.grad(acon(*args), args, g, create_graph=True)
    else:
        found = kernel.backward(g, x, *params)
    for grads, case in zip(
        zip(*(f.detach().flatten() for f in found), strict=True), cases, strict=True
    ):
        assert [float(grad) for grad in grads] == pytest.approx(
            gradients_at_infinity(*case), nan_ok=True
        ), case


@pytest.mark.parametrize('name', ['default', 'avx2'])
def test_gradients_at_infinity_are_the_limits_for_each_instruction_set(name):
    file = Path(__file__)
    command = [sys.executable, '-m', 'pytest', file, '-q', '-k', 'infinity_are_the_limits and cpu']
    command += ['-p', 'no:cacheprovider', '--noconftest', '--import-mode=importlib', '-rs']
    env = {**os.environ, 'ATEN_CPU_CAPABILITY': name}
    done = subprocess.run(command, env=env, cwd=file.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_gradients_at_infinity_are_not_a_number_where_autograd_differentiates_the_formula():
    """Not a wrong number, at least: see the head of formula.py."""
    args = [torch.tensor([[-float('inf')]]), *(torch.tensor([p]) for p in (1.0, 0.0, 1.0))]
    args = [arg.requires_grad_() for arg in args]
    found = torch.autograd.grad(acon_formula(*args), args, torch.ones(1, 1))
    assert all(grad.isnan().all() for grad in found)


@pytest.mark.parametrize('kernel', KERNELS)
def test_not_a_number_is_passed_on(kernel):
    x = torch.tensor([[float('nan'), 1.0]])
    p = torch.ones(2)
    assert kernel.forward(x, p, 0 * p, p).isnan().tolist() == [[True, False]]
    dx, *sums = kernel.backward(torch.ones_like(x), x, p, 0 * p, p)
    assert dx.isnan().tolist() == [[True, False]]
    assert all(total.isnan().tolist() == [True, False] for total in sums)


@pytest.mark.parametrize('kernel', KERNELS)
def test_float16_stands_the_loss_scale_of_mixed_precision(kernel):
    torch.manual_seed(0)
    x = (100 * torch.randn(4, 8, 12, 12)).half()
    g = (8192 * torch.randn(x.shape).clamp(-4, 4)).half()
    p1, p2, beta = torch.ones(8), torch.zeros(8), torch.linspace(0, 10, 8)
    found = kernel.backward(g, x, p1, p2, beta)
    assert all(grad.isfinite().all() for grad in found)
    assert_equals_closed_form(kernel, g, x, p1, p2, beta)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize('shape', [(8, 37, 7, 7), (2, 24, 200, 211)], ids=str)
@pytest.mark.parametrize('kernel', KERNELS)
def test_two_runs_are_bit_equal(kernel, shape, layout):
    g, x, *params = draw(shape, torch.float32, False)
    g, x = (tensor.contiguous(memory_format=layout) for tensor in (g, x))
    first, second = (kernel.backward(g, x, *params) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.skipif(
    cpu_kernel.why_unavailable() is not None, reason=str(cpu_kernel.why_unavailable())
)
def test_sums_of_the_compiled_kernel_do_not_depend_on_the_number_of_threads():
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(cpu_kernel.backward(*draw((4, 24, 60, 61), torch.float32, True)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize('kernel', KERNELS)
def test_negated_views_are_what_they_show(kernel):
    args = draw((2, 3, 5, 7), torch.float32, True)
    g, x, *params = [torch._neg_view(arg) for arg in args]
    assert_equals_closed_form(kernel, g, x, *params)
    leaves = [arg.detach().clone().requires_grad_() for arg in (-args[1], *(-p for p in args[2:]))]
    y = acon(*(torch._neg_view(-leaf) for leaf in leaves))
    expected = closed_form(g, *(leaf.detach() for leaf in leaves))
    torch.testing.assert_close(y.double(), expected.y, rtol=1e-5, atol=1e-6)
    (dx,) = torch.autograd.grad(y, leaves[:1], g)
    torch.testing.assert_close(dx.double(), expected.dx, rtol=1e-5, atol=1e-6)
