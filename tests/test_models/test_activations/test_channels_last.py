"""Activations with the channels last compute what they do with them in dimension 1."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from acon_mm.models import AconA, AconB, AconC, MetaAcon
from acon_mm.ops import backend_report

FAMILY = {
    'AconA': lambda **kwargs: AconA(6, **kwargs),
    'AconB': lambda **kwargs: AconB(6, **kwargs),
    'AconC': lambda **kwargs: AconC(6, init='normal', **kwargs),
    'MetaAcon': lambda **kwargs: MetaAcon(6, reduction=4, init='normal', **kwargs),
    'layer_wise': lambda **kwargs: MetaAcon(6, manner='layer_wise', init='normal', **kwargs),
    'pixel_wise': lambda **kwargs: MetaAcon(6, manner='pixel_wise', init='normal', **kwargs),
    'relu_like': lambda **kwargs: MetaAcon(6, init='relu_like', **kwargs),
}


@pytest.mark.parametrize('shape', [(3, 5, 6), (3, 4, 5, 6), (3, 2, 4, 5, 6), (3, 6)])
@pytest.mark.parametrize('name', FAMILY)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 5e-6), (torch.float64, 1e-12)], ids=str
)
def test_values_and_gradients_are_those_after_moving_the_channels(name, shape, dtype, tolerance):
    last, first = FAMILY[name](channel_dim=-1).to(dtype), FAMILY[name]().to(dtype)
    first.load_state_dict(last.state_dict())
    x = torch.randn(shape, requires_grad=True, dtype=dtype)
    g = torch.randn(shape, dtype=dtype)
    y = last(x)
    expected = first(x.movedim(-1, 1).contiguous()).movedim(1, -1)
    torch.testing.assert_close(y, expected, rtol=tolerance, atol=min(tolerance, 1e-6))
    wanted = torch.autograd.grad(expected, (x, *first.parameters()), g)
    found = torch.autograd.grad(y, (x, *last.parameters()), g)
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif('compiled' not in backend_report(), reason='needs the compiled kernel')
@pytest.mark.parametrize('shape', [(4, 50, 64), (4, 7, 9, 64)])
@pytest.mark.parametrize('cls', [AconC, MetaAcon])
def test_no_copy_of_the_map_is_made(cls, shape):
    act = cls(64, channel_dim=-1)
    x = torch.randn(shape, requires_grad=True)
    g = torch.randn(shape)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
        y = act(x)
        y.backward(g)
    assert y.is_contiguous() and x.grad.is_contiguous()
    copies = [
        event.name
        for event in record.events()
        if event.name in ('aten::copy_', 'aten::clone', 'aten::contiguous')
        and event.input_shapes
        and torch.Size(event.input_shapes[0]).numel() == x.numel()
    ]
    assert copies == []


def test_another_dimension_is_refused():
    with pytest.raises(ValueError, match='channel_dim must be 1 or -1, but it is 2'):
        AconC(4, channel_dim=2)


@pytest.mark.parametrize('cls', [AconC, MetaAcon])
def test_it_can_be_scripted(cls):
    act = cls(6, channel_dim=-1).eval()
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(torch.jit.script(act)(x), act(x))
