"""A batch norm and the activation after it as one autograd function, which saves ``x`` alone.

Meta-ACON needs the mean of each plane of its input: of a norm's output it follows from sums that
the norm takes anyway. So both together read and write what the norm alone does.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from . import cpu_kernel, no_samples, triton_kernel, triton_norm
from .autograd import needs_operations
from .backends import choose_kernel
from .broadcast import compute_dtype
from .exchange import BatchExchange
from .formula import acon_formula


class Norm(NamedTuple):
    """A batch norm.

    Attributes:
        weight: Of shape ``(C,)``, or None for ones.
        bias: Of shape ``(C,)``, or None for zeros.
        running_mean: Of shape ``(C,)``, updated in place by a batch; None if ``use_batch_stats``
            and there is none to update.
        running_var: The running variance, likewise.
        momentum: The weight of the latest batch in them.
        eps: What is added to the variance.
        use_batch_stats: Whether to take the statistics of the batch.
        exchange: Joins them with those of other processes; None for those of this one.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    momentum: float
    eps: float
    use_batch_stats: bool
    exchange: BatchExchange | None = None


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
        exchange: As of a :class:`Norm`.
    """

    weight: Tensor
    bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float
    eps: float
    exchange: BatchExchange | None = None


class Activation(NamedTuple):
    """An activation.

    Attributes:
        kind: ``'relu'``; ``'acon'``, with a given switching factor; ``'channel_wise'`` or
            ``'layer_wise'``, Meta-ACON.
        params: ``p1`` and ``p2`` and, of ``'acon'``, ``beta``: numbers or tensors of shape
            ``(C,)``. None of them for ``'relu'``.
        layers: The two layers of the channel-wise switching factor.
        use_batch_stats: Whether their norms take the statistics of the batch and update the
            running ones.
    """

    kind: str
    params: Sequence[Tensor | float] = ()
    layers: Sequence[NormedLayer] = ()
    use_batch_stats: bool = False


KERNELS = {cpu_kernel: cpu_kernel, triton_kernel: triton_norm}
"""By the kernels of ACON, those of a norm and ACON, with the functions ``can_compute``,
``norm_act_forward`` and ``norm_act_backward``."""


def may_compute_norm_act(x: Tensor) -> bool:
    """Return whether :func:`norm_act` takes ``x``: whether there is a compiled kernel for it.

    Args:
        x: Any tensor.
    """
    return _kernel_for(x) is not None


def _kernel_for(x: Tensor) -> ModuleType | None:
    kernel = choose_kernel(x)
    kernel = KERNELS.get(kernel) if kernel and x.dim() > 2 else None
    return no_samples if kernel and x.numel() == 0 else kernel


def can_compute_norm_act(x: Tensor, norm: Norm | None, act: Activation) -> bool:
    """Return whether :func:`norm_act` takes its arguments.

    Args:
        x: Any tensor.
        norm: The norm, with tensors of any shape, dtype and device.
        act: The activation, likewise.
    """
    kernel = _kernel_for(x)
    if kernel is None or not kernel.can_compute(x, act.kind):
        return False
    exchanges = [part.exchange for part in (norm, *act.layers) if part is not None]
    if x.numel() == 0 and not any(exchanges):
        return False
    # Batches of one value or sample have no variance: torch refuses them.
    if norm is not None and norm.use_batch_stats and not norm.exchange and x.numel() == x.size(1):
        return False
    if act.use_batch_stats and x.size(0) < 2 and not all(layer.exchange for layer in act.layers):
        return False
    of_channels = [t for t in (*(norm or ())[:4], *act.params) if isinstance(t, Tensor)]
    of_layers = [t for layer in act.layers for t in layer[:6]]
    shape, dtype = x.shape[1:2], compute_dtype(x)
    return all(t.shape == shape for t in of_channels) and all(
        t.dtype == dtype and t.device == x.device and type(t) in _PLAIN
        for t in (*of_channels, *of_layers)
    )


_PLAIN = (Tensor, torch.nn.Parameter)


def norm_act(x: Tensor, norm: Norm | None, act: Activation) -> Tensor:
    """Apply a batch norm and an activation.

    Args:
        x: A float tensor of shape ``(N, C, ...)``, see :func:`can_compute_norm_act`.
        norm: The norm; None for none, with Meta-ACON alone.
        act: The activation.

    Returns:
        A tensor of the shape and dtype of ``x``. Nothing is rounded between norm and activation.
        With an exchange it cannot be differentiated twice.
    """
    kernel = _kernel_for(x)
    if not torch.is_grad_enabled() and kernel is not None:
        return kernel.norm_act_forward(x, norm, act)[0]
    tensors = [p if isinstance(p, Tensor) else None for p in act.params]
    of_layers = [t for layer in act.layers for t in layer[:4]]
    return _NormAct.apply(x, *(norm or (None, None))[:2], *tensors, *of_layers, norm, act, kernel)


def _formula(
    args: Sequence[Any],
    norm: Norm | None,
    act: Activation,
    stats: Tensor,
    running: Sequence[Tensor],
) -> Tensor:
    """Compute it by torch's operations; ``stats`` are the mean and 1 / std used in evaluation."""
    if any(part.exchange for part in (norm, *act.layers) if part is not None):
        raise RuntimeError(
            'the gradients of a batch norm that is synchronised over processes cannot be '
            'differentiated again or be computed for many outputs at once: pass '
            'create_graph=False and is_grads_batched=False, or put nn.BatchNorm2d in its place'
        )
    x, weight, bias, *rest = args
    params, layers = rest[: len(act.params)], rest[len(act.params) :]
    y = x.to(compute_dtype(x))
    if norm is not None and norm.use_batch_stats:
        y = F.batch_norm(y, None, None, weight, bias, True, 0.0, norm.eps)
    elif norm is not None:
        of_norm = stats[0].to(y), stats[1].pow(-2).to(y)
        y = F.batch_norm(y, *of_norm, weight, bias, False, 0.0, 0.0)
    if act.kind == 'relu':
        return torch.relu(y).to(x.dtype)
    if act.kind == 'layer_wise':
        params.append(torch.sigmoid(y.flatten(2).mean(2).sum(1, keepdim=True)))
    elif act.kind == 'channel_wise':
        hidden = y.flatten(2).mean(2)
        for i, layer in enumerate(act.layers):
            weight, bias, scale, shift = layers[4 * i : 4 * i + 4]
            mean, var = running[2 * i : 2 * i + 2] or (None, None)
            hidden = F.linear(hidden, weight.flatten(1), bias)
            hidden = F.batch_norm(
                hidden, mean, var, scale, shift, act.use_batch_stats, eps=layer.eps
            )
        params.append(torch.sigmoid(hidden))
    return acon_formula(y, *params).to(x.dtype)


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        *tensors, norm, act, kernel = args
        y, *kept = kernel.norm_act_forward(tensors[0], norm, act)
        # Cloned: batches may go on to change them before the backward pass.
        running = [
            t.clone() for layer in act.layers for t in layer[4:6] if not act.use_batch_stats
        ]
        ctx.norm = norm and norm._replace(running_mean=None, running_var=None)
        ctx.act, ctx.counts, ctx.kernel = act, (len(tensors), len(running)), kernel
        ctx.save_for_backward(*tensors, *running, *kept)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: under checkpointing they cannot be read again
        count, of_running = ctx.counts
        args, running, kept = (
            saved[:count],
            saved[count : count + of_running],
            saved[count + of_running :],
        )
        needed = ctx.needs_input_grad[:count]
        # A slope that is a number is no tensor to save.
        end = 3 + len(ctx.act.params)
        params = zip(args[3:end], ctx.act.params, strict=True)
        args = (*args[:3], *(p if t is None else t for t, p in params), *args[end:])
        if needs_operations(g):
            twice = torch.is_grad_enabled()
            wanted = [arg for arg, need in zip(args, needed, strict=True) if need]
            with torch.enable_grad(), torch.autocast(g.device.type, enabled=False):
                y = _formula(args, ctx.norm, ctx.act, kept[0], running)
                of_wanted = iter(torch.autograd.grad(y, wanted, g, create_graph=twice))
            found = [next(of_wanted) if need else None for need in needed]
        else:
            found = ctx.kernel.norm_act_backward(g, args, kept, ctx.norm, ctx.act, needed[0])
            found = [grad if need else None for grad, need in zip(found, needed, strict=True)]
        return *found, None, None, None
