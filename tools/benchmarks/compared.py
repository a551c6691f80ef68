"""The activations that the benchmarks compare, the authors' released code among them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from acon_mm.models import AconC, MetaAcon
from acon_mm.ops.formula import acon_formula


def published_acon(x: Tensor, p1: Tensor, p2: Tensor, beta: Tensor) -> Tensor:
    """Compute ACON-C as published (Eq. 4), with ``(p1 - p2) * x`` formed twice from two products.

    ``x`` is a float tensor of shape ``(N, C, H, W)``; the others have shape ``(1, C, 1, 1)``, or
    for ``beta`` ``(N, C, 1, 1)``. The dtype of the result is float32 for a bfloat16 ``x``.
    """
    return (p1 * x - p2 * x) * torch.sigmoid(beta * (p1 * x - p2 * x)) + p2 * x


class PublishedAconC(nn.Module):
    """ACON-C as published; :class:`acon_mm.models.AconC` computes the same."""

    def __init__(self, num_channels: int, inplace: bool = False) -> None:
        super().__init__()
        shape = (1, num_channels, 1, 1)
        self.p1 = nn.Parameter(torch.ones(shape))
        self.p2 = nn.Parameter(torch.zeros(shape))
        self.beta = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return published_acon(x, self.p1, self.p2, self.beta)


class PublishedMetaAcon(nn.Module):
    """Channel-wise Meta-ACON as published; :class:`acon_mm.models.MetaAcon` computes the same."""

    def __init__(self, num_channels: int, reduction: int = 16, inplace: bool = False) -> None:
        super().__init__()
        shape = (1, num_channels, 1, 1)
        hidden = max(reduction, num_channels // reduction)
        self.p1 = nn.Parameter(torch.ones(shape))
        self.p2 = nn.Parameter(torch.zeros(shape))
        self.fc1 = nn.Conv2d(num_channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.fc2 = nn.Conv2d(hidden, num_channels, 1)
        self.bn2 = nn.BatchNorm2d(num_channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=2, keepdim=True).mean(dim=3, keepdim=True)
        beta = torch.sigmoid(self.bn2(self.fc2(self.bn1(self.fc1(pooled)))))
        return published_acon(x, self.p1, self.p2, beta)


class FormulaAconC(AconC):
    """ACON-C by the tidied formula in plain torch operations, differentiated by autograd."""

    def forward(self, x: Tensor) -> Tensor:
        return acon_formula(x, self.p1, self.p2, self.beta)


@dataclass(frozen=True)
class Activation:
    """An activation that is measured.

    Attributes:
        label: Its name in the tables.
        build: Makes the module from the number of channels.
        slow: Whether it takes part in every third round only.
        one_pixel: Whether it gets a map of one sample and one pixel instead, beside the map that
            the others get: what is left is the cost of a call, whatever the map's size.
    """

    label: str
    build: Callable[[int], nn.Module]
    slow: bool = False
    one_pixel: bool = False


ACTIVATIONS = {
    'relu': Activation('ReLU', lambda channels: nn.ReLU()),
    'silu': Activation('SiLU', lambda channels: nn.SiLU()),
    'prelu': Activation('PReLU', nn.PReLU),
    'published_aconc': Activation('ACON-C, published', PublishedAconC, slow=True),
    'published_metaacon': Activation('Meta-ACON, published', PublishedMetaAcon, slow=True),
    'formula': Activation('ACON-C, tidied formula', FormulaAconC, slow=True),
    'compiled': Activation(
        'ACON-C, `torch.compile`',
        lambda channels: torch.compile(FormulaAconC(channels), dynamic=False),
    ),
    'aconc': Activation('ACON-C', AconC),
    'metaacon': Activation('Meta-ACON', MetaAcon),
    'silu_call': Activation('SiLU, one pixel', lambda c: nn.SiLU(), one_pixel=True),
    'aconc_call': Activation('ACON-C, one pixel', AconC, one_pixel=True),
}
