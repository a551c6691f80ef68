"""ACON as an autograd function around a kernel: of the large tensors it keeps ``x`` alone."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import cpu_kernel, plain_kernel
from .broadcast import align, compute_dtype
from .formula import acon_gradients


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
    tensors = isinstance(p1, Tensor) and isinstance(p2, Tensor) and isinstance(beta, Tensor)
    if tensors and kernel is cpu_kernel:  # all of the steps below at once, for a small map's sake
        y = cpu_kernel.apply(x, p1, p2, beta)
        if y is not None:
            return y
    slopes = (per_channel('p1', p1, x), per_channel('p2', p2, x))
    factor = per_channel('beta', beta, x, or_sample=True)
    if factor is not None and all(slope is not None for slope in slopes):
        if not torch.is_grad_enabled():  # an autograd function takes longer than a small map
            return kernel.forward(x, *slopes, factor)
        return _Acon.apply(x, *slopes, factor, kernel)
    aligned = (align(*named, x) for named in (('p1', p1), ('p2', p2), ('beta', beta)))
    return _Acon.apply(x, *aligned, plain_kernel)


def per_channel(
    name: str, param: Tensor | float, x: Tensor, or_sample: bool = False
) -> Tensor | None:
    """Return a parameter of ACON as kernels take it.

    Args:
        name: What the parameter is called, for the error message.
        param: A number or a tensor, see :func:`acon_mm.ops.broadcast.align`.
        x: A tensor of shape ``(N, C, ...)``.
        or_sample: Whether kernels take it for each sample as well.

    Returns:
        A tensor of shape ``(C,)`` or, if it varies over the samples and may, ``(N, C)``, on the
        device of ``x`` and in the dtype of the computation. None if it varies over more.

    Raises:
        ValueError: If ``param`` does not fit ``x``.
    """
    dtype = compute_dtype(x)
    if x.dim() >= 2 and not isinstance(param, Tensor):
        # Filled there: copying a number to a GPU would wait.
        return torch.full(x.shape[1:2], param, dtype=dtype, device=x.device)
    if isinstance(param, Tensor):
        # What modules pass, without the operations below, which take longer than a small map.
        fits = param.shape == x.shape[1:2] or (or_sample and param.shape == x.shape[:2])
        if fits and x.dim() >= 2 and param.dtype == dtype and param.device == x.device:
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


class _Acon(torch.autograd.Function):
    """Of slopes (C,) and beta (C,) or (N, C); with ``plain_kernel`` of any aligned shapes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, p1: Tensor, p2: Tensor, beta: Tensor, kernel: ModuleType
    ) -> Tensor:
        ctx.save_for_backward(x, p1, p2, beta)
        ctx.kernel = kernel
        return kernel.forward(x, p1, p2, beta)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        gradients = acon_gradients if needs_operations(g) else ctx.kernel.backward
        return *gradients(g, *ctx.saved_tensors), None
