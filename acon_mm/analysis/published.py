"""ACON-C and Meta-ACON the way their authors' released code computes them, to compare with.

Nothing here is registered or rounded off: each product is formed as often as the published formula
writes it, and autograd keeps what it keeps. For use there are ``acon_mm.AconC`` and
``acon_mm.MetaAcon``, which compute the same.
"""

import torch
from torch import Tensor, nn


def published_acon(x: Tensor, p1: Tensor, p2: Tensor, beta: Tensor) -> Tensor:
    """Compute ACON-C as published (Eq. 4), with ``(p1 - p2) * x`` formed twice from two products.

    Args:
        x: A float tensor of shape ``(N, C, H, W)``.
        p1: The slope for large ``x``, shape ``(1, C, 1, 1)``.
        p2: The slope for small ``x``, likewise.
        beta: The switching factor, of shape ``(1, C, 1, 1)`` or ``(N, C, 1, 1)``.

    Returns:
        A tensor of the shape of ``x`` and of the dtype that torch promotes all four to: float32
        for a bfloat16 ``x``, autocast or not.
    """
    return (p1 * x - p2 * x) * torch.sigmoid(beta * (p1 * x - p2 * x)) + p2 * x


class PublishedAconC(nn.Module):
    """Apply ACON-C as published.

    Args:
        num_channels: The number of channels ``C``.
        inplace: Ignored.

    Shape:
        - Input: ``(N, C, H, W)``, any float dtype.
        - Output: the shape of the input, see :func:`published_acon` for the dtype.
    """

    def __init__(self, num_channels: int, inplace: bool = False) -> None:
        super().__init__()
        shape = (1, num_channels, 1, 1)
        self.p1 = nn.Parameter(torch.ones(shape))
        self.p2 = nn.Parameter(torch.zeros(shape))
        self.beta = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return published_acon(x, self.p1, self.p2, self.beta)


class PublishedMetaAcon(nn.Module):
    """Apply channel-wise Meta-ACON as published.

    Args:
        num_channels: The number of channels ``C``.
        reduction: ``r``; the hidden width is ``max(r, C // r)``.
        inplace: Ignored.

    Shape:
        - Input: ``(N, C, H, W)``, any float dtype.
        - Output: the shape of the input, see :func:`published_acon` for the dtype.
    """

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
