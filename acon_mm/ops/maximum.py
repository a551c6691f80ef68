"""The smooth maximum of two maps, by which ACON-FReLU activates."""

from typing import Any

import torch
from torch import Tensor

from . import triton_kernel
from .acon import acon
from .autograd import needs_operations
from .backends import choose_kernel
from .broadcast import compute_dtype
from .formula import acon_gradients


def smooth_maximum_of_two(x1: Tensor, x2: Tensor) -> Tensor:
    """Compute Eq. 1 of two maps with the switching factor 1.

    It is ``x2 + d * sigmoid(d)`` with ``d = x1 - x2``, which is ACON-A of the difference on top of
    ``x2`` and needs no stack of both. On a GPU it moves 3 N bytes forward and 5 N backward.

    Args:
        x1: A float tensor of shape ``(N, C, ...)``.
        x2: A float tensor of the same shape; its dtype may be another one.

    Returns:
        A tensor of the shape and dtype of ``x1``.
    """
    if not torch.jit.is_scripting():
        kernel = choose_kernel(x1, x2)
        if kernel is triton_kernel and x1.shape == x2.shape and x2.device == x1.device:
            return _Maximum.apply(x1, x2)
    dtype = compute_dtype(x1)
    wide = x2.to(dtype)
    return (wide + acon(x1.to(dtype) - wide, 1.0, 0.0, 1.0)).to(x1.dtype)


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x1: Tensor, x2: Tensor) -> Tensor:
        ctx.save_for_backward(x1, x2)
        return triton_kernel.maximum_forward(x1, x2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        x1, x2 = ctx.saved_tensors
        if not needs_operations(g):
            return triton_kernel.maximum_backward(g, x1, x2)
        dtype = compute_dtype(x1)
        first, *_ = acon_gradients(g.to(dtype), x1.to(dtype) - x2.to(dtype), 1.0, 0.0, 1.0)
        assert first is not None
        return first.to(x1.dtype), (g.to(dtype) - first).to(x2.dtype)
