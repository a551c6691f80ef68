"""The activations that the benchmarks compare, the authors' released code among them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from acon_mm.models import AconC, MetaAcon
from acon_mm.models.layers import norm_act
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


class NormThen(nn.Module):
    """A batch norm and an activation, computed together where acon_mm does so."""

    def __init__(self, act: Callable[[int], nn.Module], num_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_channels)
        self.act = act(num_channels)

    def forward(self, x: Tensor) -> Tensor:
        return norm_act(self.norm, self.act, x)


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    'silu': lambda channels: nn.SiLU(),
    'relu': lambda channels: nn.ReLU(),
    'prelu': nn.PReLU,
    'published_aconc': PublishedAconC,
    'published_metaacon': PublishedMetaAcon,
    'formula': FormulaAconC,
    'compiled': lambda channels: torch.compile(FormulaAconC(channels), dynamic=False),
    'aconc': AconC,
    'metaacon': MetaAcon,
    'norm': nn.BatchNorm2d,
    'norm_aconc': partial(NormThen, AconC),
    'norm_metaacon': partial(NormThen, MetaAcon),
}
"""What makes the module of each activation from the number of channels."""
