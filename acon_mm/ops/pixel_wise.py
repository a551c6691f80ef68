"""Pixel-wise Meta-ACON (Table 5): ACON with the switching factor ``sigmoid(x)``."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import triton_kernel
from .acon import acon, takes_formula
from .autograd import needs_operations, per_channel
from .backends import choose_kernel
from .broadcast import compute_dtype
from .formula import acon_formula, acon_gradients


def pixel_wise_acon(x: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
    """Apply ``acon(x, p1, p2, sigmoid(x))``.

    Of the large tensors, ``x`` alone is saved for the backward pass. On a GPU it moves 2 N bytes
    forward and 3 N backward, N being those of the map; elsewhere it consists of torch operations.

    Args:
        x: A float tensor of shape ``(N, C, ...)``.
        p1: The slope for large ``x``, of shape ``(C,)``.
        p2: The slope for small ``x``, of shape ``(C,)``.

    Returns:
        A tensor of the shape and dtype of ``x``. In between, all is float32, or float64 for a
        float64 ``x``.

    Raises:
        ValueError: If a slope's shape does not fit ``x``.
    """
    if torch.jit.is_scripting() or takes_formula(x):
        return acon(x, p1, p2, torch.sigmoid(x))
    else:  # what follows a return would be scripted as well
        kernel = choose_kernel(x, p1, p2)
        if kernel is None:
            return acon(x, p1, p2, torch.sigmoid(x))
        slopes = per_channel('p1', p1, x), per_channel('p2', p2, x)
        return _PixelWise.apply(x, *slopes, kernel)


def _gradients(
    g: Tensor, x: Tensor, p1: Tensor, p2: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    wide = x.to(compute_dtype(x))
    factor = torch.sigmoid(wide)
    direct, *of_slopes, of_factor = acon_gradients(g, wide, p1, p2, factor, (*needed, needed[0]))
    if direct is None or of_factor is None:
        return None, *of_slopes
    return (direct + of_factor * factor * (1 - factor)).to(x.dtype), *of_slopes


class _PixelWise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p1: Tensor, p2: Tensor, kernel: ModuleType) -> Tensor:
        ctx.save_for_backward(x, p1, p2)
        ctx.in_one_pass = kernel is triton_kernel and triton_kernel.fits(x)
        if ctx.in_one_pass:
            return triton_kernel.forward(x, p1, p2, None)
        wide = x.to(compute_dtype(x))
        return acon_formula(wide, p1, p2, torch.sigmoid(wide)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, p1, p2 = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if not ctx.in_one_pass or needs_operations(g):
            return *_gradients(g, x, p1, p2, needed), None
        return triton_kernel.backward(g, x, p1, p2, None, (*needed, False))
