"""What is recorded is what the activations compute with, and recording changes nothing."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from acon_mm.models import AconA, AconB, AconC, MetaAcon
from acon_mm.models.layers import ConvNormAct
from acon_mm.models.switching import record_factors
from acon_mm.ops import smooth_maximum

C = 6
ACTS = {
    'acon_a': AconA(C, beta=0.5),
    'acon_a_fixed': AconA(C, beta=2.0, learnable=False),
    'acon_b': AconB(C),
    'acon_c': AconC(C, init='normal'),
    'meta': MetaAcon(C, init='normal'),
    'meta_like': MetaAcon(C, init='relu_like'),
    'meta_last': MetaAcon(C, init='normal', channel_dim=-1),
    'layer_wise': MetaAcon(C, manner='layer_wise', init='normal'),
    'pixel_wise': MetaAcon(C, manner='pixel_wise', init='normal'),
}


def beside(parameter, x):
    """View factors of shape (N, C), (N, 1) or (N, C, H, W) so that they broadcast against x."""
    return parameter.reshape(*parameter.shape, *[1] * (x.dim() - parameter.dim()))


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('kind', ACTS)
def test_the_output_is_the_smooth_maximum_with_what_was_recorded(kind, training):
    act = deepcopy(ACTS[kind]).train(training)
    x = torch.randn(4, C, 5, 3)
    with record_factors(act) as layers:
        y = act(x.movedim(1, -1)).movedim(-1, 1) if kind == 'meta_last' else act(x)
    (layer,) = layers.values()
    (beta,) = layer.calls
    slopes = (beside(p[None], x) for p in (layer.p1, layer.p2))
    expected = smooth_maximum([p * x for p in slopes], beside(beta, x))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    assert layer.depends_on_input == isinstance(act, MetaAcon)
    assert layer.depends_on_place == (kind == 'pixel_wise')


def test_a_recorded_step_has_the_gradients_and_statistics_of_any_other(separate_norms):
    act_cfg = dict(type='acon_mm.MetaAcon', norm_cfg=dict(type='BN'))
    plain = nn.Sequential(
        ConvNormAct(3, C, 3, norm_cfg=dict(type='BN'), act_cfg=act_cfg),
        ConvNormAct(C, C, 3, norm_cfg=dict(type='BN'), act_cfg=act_cfg),
    )
    seen = deepcopy(plain)
    x = torch.randn(4, 3, 8, 8)
    plain(x).square().sum().backward()
    with record_factors(seen) as layers:
        seen(x).square().sum().backward()
    assert all(len(layer.calls) == 1 for layer in layers.values())
    for (name, one), (_, other) in zip(
        plain.named_parameters(), seen.named_parameters(), strict=True
    ):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0, msg=name)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(seen.state_dict()[name], value, rtol=0, atol=0, msg=name)
    assert not any(m._forward_hooks for m in seen.modules())


def test_a_fused_norm_and_activation_are_recorded():
    act_cfg = dict(type='acon_mm.MetaAcon')
    block = ConvNormAct(3, C, 3, norm_cfg=dict(type='BN'), act_cfg=act_cfg).eval()
    x = torch.randn(2, 3, 8, 8)
    expected = block(x)
    with record_factors(block) as layers:
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)
    (layer,) = layers.values()
    assert [tuple(beta.shape) for beta in layer.calls] == [(2, C)]
    with record_factors(block, keep=lambda beta: beta[:, :2]) as layers:
        block(x)
    (kept,) = layers.values()
    torch.testing.assert_close(kept.calls[0], layer.calls[0][:, :2])
