"""What holds for any shape, layout, dtype and parameters."""

import sys
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acon_mm.ops import acon, acon_grad_bounds

sys.path.insert(0, str(Path(__file__).parent))
from closed_form import closed_form

ACCURACY = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@st.composite
def problems(draw):
    """A map of any layout and dtype, parameters of any shape, and a gradient."""
    shape = draw(st.lists(st.integers(1, 20), min_size=2, max_size=4))
    shape[0] -= draw(st.integers(0, 1)) if shape[0] == 1 else 0
    dtype = draw(st.sampled_from(list(ACCURACY)))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = (x * draw(st.sampled_from([1e-3, 1.0, 30.0]))).to(dtype)
    g = torch.randn(shape, generator=generator).to(dtype)
    layout = draw(st.sampled_from(['contiguous', 'channels_last', 'transposed', 'strided']))
    if layout == 'channels_last':
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    elif layout == 'transposed':
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    elif layout == 'strided':
        x = x.repeat_interleave(2, -1)[..., ::2]
    if draw(st.booleans()):
        g = g[:1, :1].expand_as(g) if g.numel() else g
    n, c = shape[:2]
    beta_shape = draw(st.sampled_from([(c,), (n, c)]))
    p1, p2 = torch.randn(2, c, generator=generator, dtype=wide)
    beta = 3 * torch.randn(beta_shape, generator=generator, dtype=wide)
    return g, x, p1, p2, beta


@settings(max_examples=500, deadline=None)
@given(problems())
def test_value_and_gradients_are_the_closed_form(problem):
    g, x, *params = problem
    leaves = [tensor.detach().requires_grad_() for tensor in (x, *params)]
    y = acon(*leaves)
    found = torch.autograd.grad(y, leaves, g)
    expected = closed_form(g, x, *params)
    accuracy = ACCURACY[x.dtype]
    assert y.dtype == x.dtype
    slope = sum(p.double().abs().max() for p in params[:2]) if x.numel() else 0
    for value, wanted, scale in ((y, expected.y, x), (found[0], expected.dx, g)):
        assert value.shape == x.shape
        bound = accuracy * (wanted.abs() + slope * scale.double().abs()) + 1e-7
        assert ((value.double() - wanted).abs() <= bound).all()
    tolerance = 1e-11 if x.dtype == torch.float64 else 1e-4
    for value, param, name in zip(found[1:], params, ('p1', 'p2', 'beta'), strict=True):
        assert value.dtype == param.dtype
        error = (value.double() - expected.sums[name]).abs()
        assert (error <= tolerance * expected.magnitudes[name] + 1e-30).all()


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(0.01, 50),
    st.lists(st.floats(-1e3, 1e3), min_size=1),
)
def test_the_first_derivative_stays_within_its_bounds(p1, p2, beta, values):
    x = torch.tensor(values, dtype=torch.float64).view(-1, 1).requires_grad_()
    (slope,) = torch.autograd.grad(acon(x, p1, p2, beta).sum(), x)
    lower, upper = acon_grad_bounds(p1, p2)
    assert lower - 1e-9 <= slope.min()
    assert slope.max() <= upper + 1e-9
