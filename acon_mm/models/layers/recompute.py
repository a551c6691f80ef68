"""Activation checkpointing that leaves the running statistics of batch norms right."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, x: Tensor) -> Tensor:
    """Call a module without storing its intermediate results, and again in the backward pass.

    A plain ``torch.utils.checkpoint`` updates the running statistics of batch norms in both
    calls, so they would forget the past twice as fast. Here the second call leaves them alone.

    Args:
        module: A module of one input and one output.
        x: Its input.

    Returns:
        ``module(x)``. Without gradients nothing is stored anyway and the module is just called.
    """
    if not torch.is_grad_enabled():
        return module(x)
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _kept_running_statistics(module)),
    )


@contextmanager
def _kept_running_statistics(module: nn.Module) -> Iterator[None]:
    # Switching the tracking off would be shorter, but autograd then saves fewer tensors than in
    # the first call, which torch refuses.
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
