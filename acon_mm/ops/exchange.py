"""What a synchronised batch norm exchanges with the other processes of its group.

The tensors are those of ``torch.nn.SyncBatchNorm``, in the same order: a process that computes
norm and activation apart, because of a hook say, takes part in the exchanges of the others.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn


class BatchExchange:
    """The exchange of one batch's statistics, and of two sums in its backward pass.

    Args:
        group: The process group of the norm.
        eps: What the norm adds to the variance.
    """

    def __init__(self, group: Any, eps: float) -> None:
        self.group = group
        self.eps = eps
        self.count: Tensor  # the number of elements per channel in all processes, once joined

    def join(
        self,
        moments: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
    ) -> Tensor:
        """Join the statistics of all processes, which may have batches of different sizes.

        Args:
            moments: Mean and ``1 / sqrt(variance + eps)`` of each channel of this process's batch
                and its number of elements per channel, of shape ``(2 * C + 1,)``, in float32 or
                float64; all zeros for an empty batch.
            running_mean: Of shape ``(C,)``, updated in place; None for none.
            running_var: The running variance, likewise.
            momentum: The weight of this batch in them.

        Returns:
            Mean and variance of each channel and the number of elements, likewise, in float64.
        """
        size = distributed.get_world_size(self.group)
        if distributed.get_backend(self.group) == 'gloo':
            parts = [torch.empty_like(moments) for _ in range(size)]
            distributed.all_gather(parts, moments, self.group)
            gathered = torch.stack(parts)
        else:  # without a copy of each part
            gathered = moments.new_empty(size, len(moments))
            distributed.all_gather_into_tensor(gathered, moments, self.group)
        gathered = gathered.double()
        means, inverses, counts = *gathered[:, :-1].chunk(2, 1), gathered[:, -1:]
        self.count = counts.sum()
        share = counts / self.count
        mean = (share * means).sum(0)
        variances = torch.where(counts > 0, inverses.pow(-2) - self.eps, 0)
        var = (share * (variances + (means - mean).square())).sum(0).clamp_(min=0)
        if running_mean is not None and running_var is not None:
            unbiased = var * (self.count / (self.count - 1))
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_(unbiased.to(running_var), momentum)
        return torch.cat([mean, var, self.count.view(1)])

    def average(self, sums: Tensor) -> Tensor:
        """Average over all elements of all processes, after :meth:`join`.

        Args:
            sums: Of each channel, the sum of ``dy`` and the sum of ``dy * (x - mean)`` over this
                process's batch, where ``dy`` is the gradient of the norm's output; of shape
                ``(2 * C,)``, in float32 or float64. They are overwritten.

        Returns:
            The two averages, likewise, in float64.
        """
        distributed.all_reduce(sums, group=self.group)
        return sums.double() / self.count


def exchange_of(norm: nn.Module) -> BatchExchange | None:
    """Return the exchange for the next batch of a norm, None if it exchanges nothing.

    Args:
        norm: Any norm. A ``torch.nn.SyncBatchNorm`` in training mode exchanges if its process
            group has more than one process.
    """
    if not isinstance(norm, nn.SyncBatchNorm) or not norm.training:
        return None
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    group = norm.process_group or distributed.group.WORLD
    if distributed.get_world_size(group) < 2:
        return None
    return BatchExchange(group, norm.eps)
