import pytest
import torch
from torch import nn

from acon_mm.analysis.saved_memory import saved_bytes
from acon_mm.models import AconC, MetaAcon
from compared import ACTIVATIONS, FormulaAconC, PublishedAconC, PublishedMetaAcon

C = 6


def twins(ours, published):
    """Draw random parameters and give them to both modules, in float64."""
    torch.manual_seed(0)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    state = {
        key: value.view(published.state_dict()[key].shape)
        for key, value in ours.state_dict().items()
    }
    published.load_state_dict(state)
    return ours.double(), published.double()


def value_and_gradients(module, x):
    x = x.clone().requires_grad_()
    y = module(x)
    gradients = torch.autograd.grad(y, [x, *module.parameters()], torch.ones_like(y).cumsum(0))
    return y, [g.flatten() for g in gradients]


@pytest.mark.parametrize(
    ('ours', 'other'),
    [
        (AconC, PublishedAconC),
        (AconC, FormulaAconC),
        (lambda c: MetaAcon(c, reduction=2), lambda c: PublishedMetaAcon(c, reduction=2)),
    ],
    ids=['published aconc', 'formula', 'published metaacon'],
)
def test_what_is_compared_computes_the_same_in_both_directions(ours, other):
    ours, other = twins(ours(C), other(C))
    x = 3 * torch.randn(4, C, 5, 3, dtype=torch.float64)
    y, gradients = value_and_gradients(ours, x)
    expected, expected_gradients = value_and_gradients(other, x)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-8, atol=1e-8)


def test_the_published_formula_saves_four_maps_and_seven_under_autocast():
    module = PublishedAconC(24)
    x = torch.randn(2, 24, 28, 28, requires_grad=True)
    assert saved_bytes(lambda: module(x), module) == 4 * x.nbytes
    half = x.detach().bfloat16().requires_grad_()

    def forward():
        with torch.autocast('cpu', torch.bfloat16):
            return module(half)

    # p1 x, p2 x, s and the product in float32, and x once in bfloat16.
    assert saved_bytes(forward, module) == 7 * half.nbytes
    assert forward().dtype == torch.float32


def test_every_activation_keeps_the_shape():
    x = torch.randn(2, C, 4, 4)
    for name, build in ACTIVATIONS.items():
        if name != 'compiled':  # it is the formula, after half a minute of compiling
            assert build(C)(x).shape == x.shape, name
