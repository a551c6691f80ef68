"""Activation checkpointing that leaves the running statistics of batch norms right."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from acon_mm.ops import torch_private


def checkpoint_block(
    module: nn.Module, x: Tensor, function: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Call a module without storing its intermediate results, and again in the backward pass.

    A plain ``torch.utils.checkpoint`` updates the running statistics of batch norms in both
    calls, so each batch would count twice. Here the second call leaves them unchanged.

    Args:
        module: A module of one input and one output.
        x: Its input, a tensor of any shape.
        function: What to call instead, such as a method that computes a part of ``module``, whose
            batch norms it uses.

    Returns:
        ``module(x)`` or ``function(x)``, in its shape. Without gradients nothing is stored anyway
        and it is just called.
    """
    call = function or module
    if not torch.is_grad_enabled():
        return call(x)
    if torch_private.is_compiling():  # handles the statistics itself, and takes no context_fn
        return checkpoint(call, x, use_reentrant=False)
    return checkpoint(
        call,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _restore_running_statistics(module)),
    )


@contextmanager
def _restore_running_statistics(module: nn.Module) -> Iterator[None]:
    # Switching the tracking off would be shorter, but autograd then saves fewer tensors than in
    # the first call, which torch refuses.
    saved = [
        (norm, name, buffer)
        for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.training
        for name, buffer in norm.named_buffers(recurse=False)
    ]
    for norm, name, buffer in saved:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in saved:
            setattr(norm, name, buffer)
