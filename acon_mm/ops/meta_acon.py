"""Channel-wise Meta-ACON as one autograd function, where its parts are the default ones.

Mean, two linear layers with batch norms, sigmoid and ACON are some forty calls, forward and
backward, which cost more than ACON itself on small maps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from . import cpu_kernel
from .autograd import needs_operations
from .backends import choose_kernel
from .broadcast import compute_dtype
from .formula import acon_formula


class NormedLayer(NamedTuple):
    """A linear layer and the batch norm after it.

    Attributes:
        weight: The weight of the layer, of shape ``(outputs, inputs)`` or with trailing ones.
        bias: Its bias, of shape ``(outputs,)``, as all that follows.
        norm_weight: The weight of the norm.
        norm_bias: The bias of the norm.
        running_mean: The running mean of the norm, updated in place by a batch.
        running_var: Its running variance, likewise.
        momentum: The weight of the latest batch in them.
        eps: What the norm adds to the variance.
    """

    weight: Tensor
    bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float
    eps: float


def can_compute_meta_acon(
    x: Tensor, p1: Tensor, p2: Tensor, layers: Sequence[NormedLayer]
) -> bool:
    """Return whether :func:`meta_acon` takes its arguments: on the CPU, by its kernel.

    Args:
        x: Any tensor.
        p1: The slope for large ``x``, of shape ``(C,)``, in any dtype.
        p2: The slope for small ``x``, likewise.
        layers: Two layers, in any dtype.
    """
    return (
        choose_kernel(x) is cpu_kernel
        and x.dim() > 2
        and x.numel() > 0
        and all(
            t.dtype == compute_dtype(x) and t.device == x.device
            for t in (p1, p2, *(t for layer in layers for t in layer[:6]))
        )
    )


def meta_acon(
    x: Tensor, p1: Tensor, p2: Tensor, layers: Sequence[NormedLayer], use_batch_stats: bool
) -> Tensor:
    """Compute ACON-C with ``beta = sigmoid(norm2(fc2(norm1(fc1(mean of x)))))`` (section 3.1).

    Args:
        x: A float tensor of shape ``(N, C, ...)``, see :func:`can_compute_meta_acon`. ``N`` is at
            least 2 if ``use_batch_stats``.
        p1: The slope for large ``x``, of shape ``(C,)``, in the dtype of the computation.
        p2: The slope for small ``x``, likewise.
        layers: The two layers, in the dtype of the computation.
        use_batch_stats: Whether the norms take the statistics of the batch and update the running
            ones.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    if not torch.is_grad_enabled():
        return cpu_kernel.meta_forward(x, p1, p2, layers, use_batch_stats)[0]
    first, second = layers
    return _MetaAcon.apply(x, p1, p2, *first[:4], *second[:4], layers, use_batch_stats)


def _formula(args: Sequence[Tensor], running: Sequence[Tensor], eps: Sequence[float]) -> Tensor:
    x, p1, p2, *params = args
    hidden = x.flatten(2).mean(2, dtype=compute_dtype(x))
    for i, (weight, bias, *norm) in enumerate((params[:4], params[4:])):
        stats = running[2 * i : 2 * i + 2] or (None, None)
        hidden = F.linear(hidden, weight.flatten(1), bias)
        hidden = F.batch_norm(hidden, *stats, *norm, training=not running, eps=eps[i])
    return acon_formula(x, p1, p2, torch.sigmoid(hidden))


class _MetaAcon(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Tensor | Sequence[NormedLayer] | bool) -> Tensor:
        *tensors, layers, use_batch_stats = args
        y, *saved = cpu_kernel.meta_forward(*tensors[:3], layers, use_batch_stats)
        ctx.use_batch_stats, ctx.eps = use_batch_stats, [layer.eps for layer in layers]
        # Cloned: batches may go on to change them before the backward pass.
        stats = [stat.clone() for layer in layers for stat in layer[4:6] if not use_batch_stats]
        ctx.save_for_backward(*tensors, *stats, *saved)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors  # once: under checkpointing they cannot be read again
        end = 11 if ctx.use_batch_stats else 15
        args, running, saved = tensors[:11], tensors[11:end], tensors[end:]
        if needs_operations(g):
            needed, twice = ctx.needs_input_grad, torch.is_grad_enabled()
            wanted = [arg for arg, need in zip(args, needed, strict=False) if need]
            with torch.enable_grad(), torch.autocast('cpu', enabled=False):
                y = _formula(args, running, ctx.eps)
                found = iter(torch.autograd.grad(y, wanted, g, create_graph=twice))
            return *(next(found) if need else None for need in needed[:11]), None, None
        return *cpu_kernel.meta_backward(g, *args, saved, ctx.use_batch_stats), None, None
