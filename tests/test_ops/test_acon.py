import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import acon_mm.ops
from acon_mm.ops import acon, smooth_maximum
from acon_mm.ops.autograd import per_channel
from acon_mm.ops.broadcast import align, align_all

# One value a channel, a sample and channel, a sample, an element, and one in all.
BETA_SHAPES = [(3,), (2, 3), (2, 1), (2, 3, 4, 5), ()]


def draw(*shape: int):
    return torch.randn(shape, dtype=torch.double, requires_grad=True)


@pytest.mark.parametrize('beta_shape', BETA_SHAPES)
def test_first_and_second_derivatives_equal_finite_differences(beta_shape):
    torch.manual_seed(0)
    args = draw(2, 3, 4, 5), draw(3), draw(3), draw(*beta_shape)
    assert gradcheck(acon, args)
    assert gradgradcheck(acon, args)


@pytest.mark.parametrize('beta_shape', BETA_SHAPES)
def test_acon_is_the_smooth_maximum_of_its_two_lines(beta_shape):
    x, p1, p2, beta = draw(2, 3, 4, 5), draw(3), draw(3), draw(*beta_shape)
    shape = {1: (1, 3, 1, 1), 2: (*beta_shape, 1, 1)}.get(len(beta_shape), beta_shape)
    lines = [x * p.view(1, 3, 1, 1) for p in (p1, p2)]
    torch.testing.assert_close(acon(x, p1, p2, beta), smooth_maximum(lines, beta.view(shape)))


def test_slopes_of_one_and_zero_give_silu():
    x = 20 * torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(acon(x, torch.ones(3), torch.zeros(3), torch.ones(3)), F.silu(x))


@pytest.mark.parametrize('shape', [(4, 3), (4, 3, 7), (4, 3, 1, 1), (4, 3, 2, 5, 3), (0, 3, 4, 4)])
def test_any_number_of_dimensions_is_accepted(shape):
    x = torch.randn(shape)
    p1, p2, beta = torch.randn(3, 3)
    out = acon(x, p1, p2, beta)
    assert out.shape == x.shape
    for c in range(3):
        lines = [x[:, c] * p1[c], x[:, c] * p2[c]]
        torch.testing.assert_close(out[:, c], smooth_maximum(lines, beta[c]))


def test_the_memory_format_is_kept_and_does_not_change_the_values():
    x = torch.randn(2, 3, 4, 5)
    params = torch.randn(3, 3)
    last = acon(x.to(memory_format=torch.channels_last), *params)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, acon(x, *params))
    strided = torch.randn(2, 6, 4, 10)[:, ::2, :, ::2]
    torch.testing.assert_close(acon(strided, *params), acon(strided.contiguous(), *params))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_half_precision_result_is_the_float32_result_rounded_once(dtype):
    x = (10 * torch.randn(2, 3, 16, 16)).to(dtype)
    params = torch.randn(3, 3)
    out = acon(x, *params)
    assert out.dtype == dtype
    assert torch.equal(out, acon(x.float(), *params).to(dtype))


def test_autocast_does_not_widen_the_output():
    x = torch.randn(2, 3, 4, 4, dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert acon(x, *torch.randn(3, 3)).dtype == torch.bfloat16


def test_half_precision_gradients_survive_a_loss_scale_and_extreme_inputs():
    x = torch.tensor([-1e4, -300, -30, -1, 0, 1, 30, 300, 1e4]).half().view(1, 1, -1)
    params = [torch.full((1,), v) for v in (1.2, -0.8, 1.0)]
    args = [x, *params]
    exact = [arg.double().requires_grad_() for arg in args]
    args = [arg.requires_grad_() for arg in args]
    out, wide = acon(*args), acon(*exact)
    grads = torch.autograd.grad(out, args, torch.full_like(out, 8192))
    expected = torch.autograd.grad(wide, exact, torch.full_like(wide, 8192))
    for grad, reference in zip(grads, expected, strict=True):
        tolerance = 1e-3 if grad.dtype == torch.half else 1e-5
        torch.testing.assert_close(grad.double(), reference, rtol=tolerance, atol=1e-2)


def test_an_infinite_input_gives_a_signed_infinity():
    x = torch.tensor([[[-torch.inf, torch.inf]]])
    assert acon(x, 1.5, -0.5, 1.0).flatten().tolist() == [torch.inf, torch.inf]
    assert acon(x, 1.5, 0.5, 1.0).flatten().tolist() == [-torch.inf, torch.inf]


def test_an_infinite_input_gives_nan_where_the_slope_is_zero():
    out = acon(torch.tensor([[[-torch.inf, torch.inf]]]), 1.0, 0.0, 1.0).flatten()
    assert out[0].isnan()
    assert out[1] == torch.inf


class NoCopies(TorchDispatchMode):
    """Fail where a tensor is copied to another device or dtype."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))


def test_kernels_get_a_number_as_it_is():
    with NoCopies():
        assert per_channel('p1', 0.3, torch.empty(2, 3, 4, device='meta')) == 0.3
    with pytest.raises(ValueError, match=r'x must have the shape \(N, C, ...\)'):
        per_channel('p1', 0.3, torch.ones(3))


def test_a_number_stays_on_the_cpu_and_goes_with_any_device():
    """The meta device stands in for a GPU, to which a copy would make the host wait."""
    x = torch.empty(2, 3, 4, device='meta', requires_grad=True)
    assert align('beta', 1.0, x).device.type == 'cpu'
    with NoCopies():
        assert align_all(x, 1.0, 0.0, 2.0)[1:] == (1.0, 0.0, 2.0)
    out = acon(x, 1.0, 0.0, 2.0)
    assert out.device == x.device
    out.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    ('name', 'shape'),
    [('p1', (4,)), ('p2', (1,)), ('beta', (3, 2)), ('beta', (2, 3, 4)), ('beta', (2, 3, 5, 5))],
)
def test_a_parameter_of_another_shape_is_refused_by_name(name, shape):
    params = dict(p1=torch.ones(3), p2=torch.ones(3), beta=torch.ones(3))
    params[name] = torch.ones(shape)
    with pytest.raises(ValueError, match=rf'{name} has the shape .*\(2, 3, 4, 4\)'):
        acon(torch.ones(2, 3, 4, 4), **params)


def test_an_input_without_channels_is_refused():
    with pytest.raises(ValueError, match=r'x must have the shape \(N, C, ...\)'):
        acon(torch.ones(3), 1.0, 0.0, 1.0)


def test_ops_need_nothing_of_openmmlab():
    """A program that reads ops alone, without the package around it, imports no mm* library."""
    code = (
        'import importlib.util, sys\n'
        'spec = importlib.util.spec_from_file_location("ops", sys.argv[1],'
        ' submodule_search_locations=[sys.argv[2]])\n'
        'ops = importlib.util.module_from_spec(spec); sys.modules["ops"] = ops\n'
        'spec.loader.exec_module(ops)\n'
        'print({"mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain"} & set(sys.modules))'
    )
    init = Path(acon_mm.ops.__file__)
    done = subprocess.run(
        [sys.executable, '-c', code, init, init.parent], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == 'set()'
