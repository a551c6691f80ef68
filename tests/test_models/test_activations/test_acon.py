import copy

import pytest
import torch
from torch.nn import functional as F

from acon_mm.models import AconA, AconB, AconC, MetaAcon
from acon_mm.ops import smooth_maximum

FAMILY = [AconA, AconB, AconC, MetaAcon]


def test_acon_a_starts_as_silu():
    x = 10 * torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(AconA(5)(x), F.silu(x))
    torch.testing.assert_close(AconA(5, learnable=False)(x), F.silu(x))


def test_acon_a_with_a_fixed_switching_factor_has_no_state():
    fixed = AconA(5, beta=2.0, learnable=False)
    assert not fixed.state_dict()
    x = torch.randn(2, 5)
    torch.testing.assert_close(fixed(x), x * torch.sigmoid(2 * x))
    torch.testing.assert_close(AconA(5, beta=2.0)(x), fixed(x))


def test_acon_b_smooths_prelu_with_a_slope_of_a_quarter():
    act = AconB(5)
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(act(x), smooth_maximum([x, 0.25 * x], 1.0))
    torch.nn.init.constant_(act.beta, 1e6)
    torch.testing.assert_close(act(x), F.prelu(x, torch.tensor(0.25)), atol=1e-5, rtol=0)


def test_acon_c_starts_from_the_paper_or_from_a_normal_distribution():
    paper = AconC(4000)
    assert (paper.p1 == 1).all()
    assert (paper.p2 == 0).all()
    torch.manual_seed(0)
    normal = AconC(4000, init='normal')
    for p in (normal.p1, normal.p2):
        assert abs(p.mean()) < 0.1
        assert abs(p.std() - 1) < 0.1
    assert (paper.beta == 1).all()
    assert (normal.beta == 1).all()


@pytest.mark.parametrize('cls', FAMILY)
def test_every_learnt_number_of_a_channel_is_one_dimensional(cls):
    own = dict(cls(6).named_parameters(recurse=False))
    assert own
    assert all(p.shape == (6,) for p in own.values())


@pytest.mark.parametrize('cls', FAMILY)
def test_every_parameter_gets_a_gradient(cls):
    act = cls(6)
    act(torch.randn(4, 6, 5, 5)).square().sum().backward()
    zero = [n for n, p in act.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias before a batch norm is cancelled by its mean.
    assert set(zero) <= {'fc1.bias', 'fc2.bias'}


@pytest.mark.parametrize('cls', FAMILY)
@pytest.mark.parametrize('shape', [(4, 6), (4, 6, 1, 1), (4, 6, 7), (0, 6, 3, 3), (1, 6, 5, 5)])
@pytest.mark.parametrize('training', [True, False])
def test_unusual_shapes_pass_through(cls, shape, training):
    act = cls(6).train(training)
    out = act(torch.randn(shape))
    assert out.shape == shape
    assert torch.isfinite(out).all()


@pytest.mark.parametrize('cls', FAMILY)
def test_channels_last_gives_the_same_values_and_stays_channels_last(cls):
    act = cls(6)
    x = torch.randn(4, 6, 5, 5)
    out = act(x.to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, act(x))


@pytest.mark.parametrize('cls', FAMILY)
def test_autocast_keeps_the_dtype_of_the_input(cls):
    act = cls(6)
    x = torch.randn(4, 6, 5, 5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert act(x).dtype == torch.float32
        half = act(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), act(x), atol=0.03, rtol=0.03)


@pytest.mark.parametrize('cls', FAMILY)
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_a_module_of_another_dtype_works(cls, dtype):
    assert cls(6).to(dtype)(torch.randn(4, 6, 5, 5, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize('cls', FAMILY)
def test_inplace_is_accepted_and_ignored(cls):
    torch.manual_seed(0)
    act = cls(6, inplace=True)
    x = torch.randn(4, 6, 5, 5)
    kept = x.clone()
    act(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize('cls', FAMILY)
def test_a_deep_copy_is_independent(cls):
    act = cls(6)
    twin = copy.deepcopy(act)
    with torch.no_grad():
        twin.beta.fill_(9) if hasattr(act, 'beta') else twin.p1.fill_(9)
    x = torch.randn(4, 6, 5, 5)
    assert not torch.equal(act(x), twin(x))


@pytest.mark.parametrize('cls', FAMILY)
@pytest.mark.parametrize('num_channels', [0, -3, 2.5, None])
def test_a_bad_number_of_channels_is_refused(cls, num_channels):
    with pytest.raises(ValueError, match='num_channels must be a positive integer'):
        cls(num_channels)


@pytest.mark.parametrize('cls', [AconC, MetaAcon])
def test_an_unknown_init_is_refused_with_the_accepted_ones(cls):
    with pytest.raises(ValueError, match=r"init must be one of \('paper', 'normal'.*'zeros'"):
        cls(4, init='zeros')
