"""The kernel for a batch without samples, whose norms take part in the exchanges of the others.

The functions are those of :mod:`acon_mm.ops.cpu_kernel`, of the same arguments and results.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .broadcast import compute_dtype


def can_compute(x: Tensor, kind: str) -> bool:
    """Return whether :func:`norm_act_forward` takes a map and an activation: all of them."""
    return True


def norm_act_forward(x: Tensor, norm: Any, act: Any) -> list[Tensor]:
    """Join the statistics of the other processes and return an empty map."""
    for part, channels in _exchanging(x, norm, act):
        running = part.running_mean, part.running_var, part.momentum
        part.exchange.join(_zeros(x, 2 * channels + 1), *running)
    return [torch.empty_like(x)]


def norm_act_backward(
    g: Tensor, args: Sequence[Any], kept: Sequence[Tensor], norm: Any, act: Any, with_dx: bool
) -> list[Tensor | None]:
    """Add nothing to the sums of the other processes and return gradients of 0."""
    for part, channels in reversed(_exchanging(g, norm, act)):
        if with_dx or part is not norm:
            part.exchange.average(_zeros(g, 2 * channels))
    return [torch.zeros_like(arg) if isinstance(arg, Tensor) else None for arg in args]


def _exchanging(x: Tensor, norm: Any, act: Any) -> list[tuple[Any, int]]:
    parts = [(norm, x.size(1)), *((layer, len(layer.bias)) for layer in act.layers)]
    return [(part, channels) for part, channels in parts if part and part.exchange]


def _zeros(x: Tensor, size: int) -> Tensor:
    return x.new_zeros(size, dtype=compute_dtype(x))
