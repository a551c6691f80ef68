"""The mean over the pixels, whose gradient takes no memory of the size of the map."""

from typing import Any

import torch
from torch import Tensor

from .backends import is_traced_or_transformed
from .broadcast import compute_dtype


def spatial_mean(x: Tensor) -> Tensor:
    """Compute the mean of each sample and channel over the pixels.

    Args:
        x: A float tensor of shape ``(N, C, ...)``; ``(N, C)`` counts as a map of one pixel.

    Returns:
        A tensor of shape ``(N, C)``, in float64 if ``x`` is and else in float32: a float16 sum
        over a 200 × 304 map would overflow or lose three digits.
    """
    if x.dim() == 2:
        return x.to(compute_dtype(x))
    if torch.jit.is_scripting():
        return x.flatten(2).mean(2, dtype=compute_dtype(x))
    else:  # what follows a return would be scripted as well
        if is_traced_or_transformed(x):
            return x.flatten(2).mean(2, dtype=compute_dtype(x))
        return _SpatialMean.apply(x)


class _SpatialMean(torch.autograd.Function):
    """Return the gradient expanded, not written out: autograd then adds it in place.

    ``torch.mean`` divides after expanding, which writes a map and reads it again, and its sum in
    another dtype than the input's writes a second one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return x.mean(tuple(range(2, x.dim())), dtype=compute_dtype(x))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        g = (g / ctx.shape[2:].numel()).to(ctx.dtype)
        return g.view(*g.shape, *(1 for _ in ctx.shape[2:])).expand(ctx.shape)
