import pytest
import torch
from torch.nn import functional as F

from acon_mm.ops import acon, acon_grad, acon_grad_bounds, smooth_maximum

SLOPES = [(1.0, 0.0), (1.2, -0.8), (0.25, 1.0), (-0.5, -2.0), (0.7, 0.7)]


def test_smooth_maximum_is_the_mean_at_zero_and_the_maximum_at_infinity():
    xs = torch.randn(5, 4, 3, dtype=torch.double).unbind()
    stacked = torch.stack(xs)
    torch.testing.assert_close(smooth_maximum(xs, 0.0), stacked.mean(0))
    torch.testing.assert_close(smooth_maximum(xs, 1e-9), stacked.mean(0))
    torch.testing.assert_close(smooth_maximum(xs, 1e6), stacked.amax(0))
    torch.testing.assert_close(smooth_maximum(xs, -1e6), stacked.amin(0))


def test_smooth_maximum_equals_equation_1_written_out():
    xs = torch.randn(3, 7, dtype=torch.double).unbind()
    beta = 1.7
    numerator = sum(x * torch.exp(beta * x) for x in xs)
    denominator = sum(torch.exp(beta * x) for x in xs)
    torch.testing.assert_close(smooth_maximum(xs, beta), numerator / denominator)


def test_smooth_maximum_stays_finite_where_the_exponential_overflows():
    xs = [torch.tensor([-1e4, 3e4]), torch.tensor([1e4, 2e4])]
    assert smooth_maximum(xs, 100.0).tolist() == [1e4, 3e4]


def test_smooth_maximum_of_one_input_is_that_input_and_of_none_is_refused():
    x = torch.randn(3)
    torch.testing.assert_close(smooth_maximum([x], 5.0), x)
    with pytest.raises(ValueError, match='xs must hold at least one tensor'):
        smooth_maximum([], 1.0)


def test_smooth_maximum_broadcasts_its_inputs_and_the_switching_factor():
    a, b = torch.randn(2, 1), torch.randn(1, 3)
    beta = torch.rand(2, 3)
    assert smooth_maximum([a, b], beta).shape == (2, 3)


@pytest.mark.parametrize(('p1', 'p2'), SLOPES)
@pytest.mark.parametrize('beta', [0.3, 1.0, 8.0, -2.0])
def test_acon_grad_equals_autograd(p1, p2, beta):
    x = torch.linspace(-30, 30, 601, dtype=torch.double).view(1, 1, -1).requires_grad_()
    (expected,) = torch.autograd.grad(acon(x, p1, p2, beta).sum(), x)
    torch.testing.assert_close(acon_grad(x.detach(), p1, p2, beta), expected)


def test_acon_grad_equals_equation_5_as_the_paper_prints_it():
    p1, p2, beta = 1.2, -0.8, 1.5
    x = torch.linspace(-5, 5, 101, dtype=torch.double)
    e = torch.exp(-beta * (p1 * x - p2 * x))
    first = (p1 - p2) * (1 + e) / (1 + e) ** 2
    second = beta * (p1 - p2) ** 2 * e * x / (1 + e) ** 2
    torch.testing.assert_close(
        acon_grad(x.view(1, 1, -1), p1, p2, beta).flatten(), first + second + p2
    )


def test_acon_grad_reaches_the_slopes_far_away_and_at_infinity():
    x = torch.tensor([[[-torch.inf, -1e30, 1e30, torch.inf]]])
    assert torch.equal(acon_grad(x, 1.5, -0.5, 2.0), torch.tensor([[[-0.5, -0.5, 1.5, 1.5]]]))


@pytest.mark.parametrize(('p1', 'p2'), SLOPES)
def test_the_derivative_stays_within_its_bounds_and_attains_both(p1, p2):
    x = torch.linspace(-40, 40, 400_001, dtype=torch.double).view(1, 1, -1)
    slope = acon_grad(x, p1, p2, 1.3)
    lower, upper = acon_grad_bounds(p1, p2)
    assert slope.min() >= lower - 1e-12
    assert slope.max() <= upper + 1e-12
    if p1 != p2:
        assert slope.min() - lower < 1e-7
        assert upper - slope.max() < 1e-7


def test_the_bounds_are_those_that_equation_8_prints():
    lower, upper = acon_grad_bounds(1.2, -0.8)
    assert upper == pytest.approx(1.0998 * 1.2 - 0.0998 * -0.8, abs=2e-4)
    assert lower == pytest.approx(1.0998 * -0.8 - 0.0998 * 1.2, abs=2e-4)


def test_the_bounds_of_tensors_are_ordered_for_either_order_of_the_slopes():
    p1, p2 = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    lower, upper = acon_grad_bounds(p1, p2)
    assert (lower < upper).all()
    torch.testing.assert_close(lower[0], lower[1])


@pytest.mark.parametrize('beta', [0.0, 1e-9])
def test_acon_becomes_the_mean_of_its_two_lines_for_a_small_switching_factor(beta):
    x = torch.randn(2, 3, 5, dtype=torch.double)
    p1, p2 = torch.randn(2, 3, dtype=torch.double)
    mean = x * ((p1 + p2) / 2).view(1, 3, 1)
    torch.testing.assert_close(acon(x, p1, p2, beta), mean, atol=1e-7, rtol=0)


def test_acon_becomes_the_maximum_of_its_two_lines_for_a_large_switching_factor():
    x = torch.randn(2, 3, 50, dtype=torch.double)
    p1, p2 = torch.randn(2, 3, dtype=torch.double)
    maximum = torch.maximum(x * p1.view(1, 3, 1), x * p2.view(1, 3, 1))
    torch.testing.assert_close(acon(x, p1, p2, 1e7), maximum, atol=1e-6, rtol=0)


def test_swish_is_between_relu_and_half_the_identity():
    x = torch.randn(1, 1, 100)
    torch.testing.assert_close(acon(x, 1.0, 0.0, 1e5), F.relu(x), atol=1e-4, rtol=0)
    torch.testing.assert_close(acon(x, 1.0, 0.0, 0.0), x / 2)
