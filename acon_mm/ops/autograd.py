"""ACON as an autograd function around a kernel: of the large tensors it saves ``x`` alone."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import plain_kernel
from .broadcast import align, align_all, check_dimensions, compute_dtype
from .formula import acon_formula, acon_gradients


def acon_by_kernel(
    kernel: ModuleType,
    x: Tensor,
    p1: Tensor | float,
    p2: Tensor | float,
    beta: Tensor | float,
) -> Tensor:
    """Compute ACON by a kernel, or by plain operations where a parameter varies over the pixels.

    Arguments, result and errors as in :func:`acon_mm.ops.acon`; ``kernel`` is a module with the
    functions of :mod:`acon_mm.ops.cpu_kernel`.
    """
    slopes = (per_channel('p1', p1, x), per_channel('p2', p2, x))
    factor = per_channel('beta', beta, x, or_sample=True)
    if factor is not None and all(slope is not None for slope in slopes):
        if not torch.is_grad_enabled():  # an autograd function takes longer than a small map
            return kernel.forward(x, *slopes, factor)
        return _Acon.apply(x, *slopes, factor, kernel)
    _, *aligned = align_all(x, p1, p2, beta)
    return _Acon.apply(x, *aligned, plain_kernel)


def per_channel(
    name: str, param: Tensor | float, x: Tensor, or_sample: bool = False
) -> Tensor | float | None:
    """Return a parameter of ACON as kernels take it.

    Args:
        name: What the parameter is called, for the error message.
        param: A number or a tensor, see :func:`acon_mm.ops.broadcast.align`.
        x: A tensor of shape ``(N, C, ...)``.
        or_sample: Whether kernels take it for each sample as well.

    Returns:
        A number as it is. Of a tensor, one of shape ``(C,)`` or, if it varies over the samples and
        may, ``(N, C)``, on the device of ``x`` and in the dtype of the computation. None if it
        varies over more.

    Raises:
        ValueError: If ``param`` does not fit ``x``.
    """
    check_dimensions(x)
    if not isinstance(param, Tensor):
        return float(param)
    dtype = compute_dtype(x)
    # What modules pass, without the operations below, which take longer than a small map.
    fits = param.shape == x.shape[1:2] or (or_sample and param.shape == x.shape[:2])
    if fits and param.dtype == dtype and param.device == x.device:
        return param
    view = align(name, param, x).to(x.device, dtype)
    if view.dim() == 0:
        return view.expand(x.size(1))
    samples = view.size(0)
    if view.shape[2:].numel() != 1 or (samples != 1 and not or_sample):
        return None
    view = view.flatten(1).expand(-1, x.size(1))
    return view[0] if samples == 1 else view


def needs_operations(g: Tensor) -> bool:
    """Return whether a backward pass that gets ``g`` must consist of torch operations."""
    # Gradients are enabled in a backward pass under create_graph only, which differentiates it.
    return torch.is_grad_enabled() or not _has_storage(g)


def _has_storage(g: Tensor) -> bool:
    try:
        g.untyped_storage()
    except NotImplementedError:  # a batch of gradients under vmap, which a kernel cannot read
        return False
    return True


def acon_to_compile(
    x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float
) -> Tensor:
    """Compute ACON as ``torch.compile`` gets it: the formula and :func:`acon_gradients`.

    Left to differentiate the formula by itself, Inductor moves 7 N backward in float32 and 9 N in
    bfloat16, instead of 5 N. Arguments and result as in :func:`acon_mm.ops.acon`.
    """
    return _ToCompile.apply(x, p1, p2, beta)


class _ToCompile(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float
    ) -> Tensor:
        params = (p1, p2, beta)
        ctx.numbers = [None if isinstance(param, Tensor) else param for param in params]
        ctx.save_for_backward(x, *(param for param in params if isinstance(param, Tensor)))
        return acon_formula(x, p1, p2, beta)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        params = [tensors.pop(0) if number is None else number for number in ctx.numbers]
        return acon_gradients(g, x, params[0], params[1], params[2], ctx.needs_input_grad)


class _Acon(torch.autograd.Function):
    """Of slopes (C,) and beta (C,) or (N, C); with ``plain_kernel`` of any aligned shapes.

    Each of the three may be a number.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        p1: Tensor | float,
        p2: Tensor | float,
        beta: Tensor | float,
        kernel: ModuleType,
    ) -> Tensor:
        params = (p1, p2, beta)
        ctx.numbers = [None if isinstance(param, Tensor) else param for param in params]
        ctx.save_for_backward(x, *(p if isinstance(p, Tensor) else None for p in params))
        ctx.kernel = kernel
        return kernel.forward(x, *params)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors  # once: under checkpointing they cannot be read again
        p1, p2, beta = (
            tensor if number is None else number
            for tensor, number in zip(tensors, ctx.numbers, strict=True)
        )
        gradients = acon_gradients if needs_operations(g) else ctx.kernel.backward
        return *gradients(g, x, p1, p2, beta, ctx.needs_input_grad[:4]), None
