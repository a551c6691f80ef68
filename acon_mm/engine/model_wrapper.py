"""Data parallelism for processes that have no GPU."""

import logging
from typing import Any

from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from torch import nn

from acon_mm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """Average gradients over CPU processes, with plain batch norm in place of synchronised.

    mmengine's ``Runner`` always passes ``device_ids=[LOCAL_RANK]`` to a wrapper, which torch
    refuses for a module on the CPU, and ``nn.SyncBatchNorm`` refuses CPU tensors.

    Args:
        module: The model, on the CPU.
        device_ids: Accepted and ignored.
        output_device: Accepted and ignored.
        **kwargs: Further arguments of :class:`mmengine.model.MMDistributedDataParallel`, such
            as ``find_unused_parameters`` and ``broadcast_buffers``.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: list[int] | None = None,
        output_device: int | None = None,
        **kwargs: Any,
    ) -> None:
        synced = sum(map(is_sync_batchnorm, module.modules()))
        if synced:
            print_log(
                f'{synced} SyncBatchNorm layers are replaced by batch norm, because '
                'SyncBatchNorm works on GPUs only: every process now normalises by its own '
                'samples.',
                logger='current',
                level=logging.WARNING,
            )
            module = revert_sync_batchnorm(module)
        super().__init__(module, device_ids=None, **kwargs)


def is_sync_batchnorm(layer: nn.Module) -> bool:
    """Return whether a layer is ``nn.SyncBatchNorm`` or mmcv's synchronised batch norm."""
    # By name, so that mmcv's compiled operators are not needed.
    return any(base.__name__ == 'SyncBatchNorm' for base in type(layer).__mro__)
