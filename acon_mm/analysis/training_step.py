"""Count what one training step of a config holds in memory and exchanges between GPUs."""

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import MODELS, OPTIMIZERS, DefaultScope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from acon_mm.apis.config import load_config
from acon_mm.engine.model_wrapper import is_sync_batchnorm
from acon_mm.errors import UserError
from acon_mm.models import MetaAcon
from acon_mm.registry import type_name

from .random_batch import random_batch, training_size
from .saved_memory import saved_bytes

MIB = 2**20
# DDP's limits of buckets: of the first one and of the others.
_BUCKET_BYTES = (MIB, 25 * MIB)
_WRAPPERS = ('MMDistributedDataParallel', 'DistributedDataParallel', 'CPUDistributedDataParallel')


@dataclass(frozen=True)
class Exchange:
    """A collective operation of one training step.

    Attributes:
        operation: ``'all_reduce'``, ``'all_gather'`` or ``'broadcast'``.
        nbytes: The bytes of the tensor that one GPU gives.
        purpose: ``'gradients'``, ``'buffers'``, ``'used parameters'``, or ``'norms, forward'``,
            ``'norms, backward'`` and the same of ``'norms in Meta-ACON'``.
    """

    operation: str
    nbytes: int
    purpose: str


@dataclass(frozen=True)
class StepCounts:
    """One training step of one GPU. Memory is in bytes.

    Attributes:
        batch_size: The number of images per GPU.
        image_size: Height and width as the network gets them.
        size_source: The config key that the size is from.
        counted_images: The number of images of the forward pass that ``saved`` was counted in.
        workers: The number of worker processes of the data loader per GPU.
        optimizer: The name of the optimizer.
        parameters: The memory of all parameters and buffers.
        gradients: The memory of the gradients; DDP's buckets take the same once more.
        optimizer_state: The memory of the optimizer after its first step.
        saved: The memory of what the forward pass saves for the backward pass.
        forward_flops: The floating-point operations of convolutions and matrix products in the
            forward pass and the loss of one image, two for each multiply-accumulate.
        exchanges: All collective operations of a step after the first one, in which DDP does not
            know the order of the gradients yet and adds them up all at once. Those of gradients
            stand in the order in which they start.
    """

    batch_size: int
    image_size: tuple[int, int]
    size_source: str
    counted_images: int
    workers: int
    optimizer: str
    parameters: int
    gradients: int
    optimizer_state: int
    saved: int
    forward_flops: int
    exchanges: tuple[Exchange, ...]

    @property
    def memory(self) -> int:
        """The sum of all memory, DDP's buckets included."""
        return self.parameters + 2 * self.gradients + self.optimizer_state + self.saved


def count_step(
    config: str | os.PathLike | Config,
    shape: Sequence[int] | None = None,
    images: int = 2,
    cfg_options: dict | None = None,
) -> StepCounts:
    """Run a training step of a config on the CPU with random images and count.

    Synchronised norms run as batch norms, since torch's refuses CPU tensors. How often they
    exchange what is taken from torch's source: in the forward pass all GPUs gather mean, inverse
    deviation and count (``2C + 1`` numbers), in the backward pass they add up two sums
    (``2C`` numbers) if the gradient of the norm's input is needed; all in float32. Norms that are
    computed with their activation exchange the same. Meta-ACON has
    two such norms, ``bn1`` and ``bn2``. Their exchanges come one after the other and everything
    waits for them, but one exchange could serve both: what ``bn2`` gets is linear in what ``bn1``
    gets, so its statistics follow from the mean and the covariance of the latter.

    What is saved is what the operators save on the CPU; those of a GPU may save other maps.

    Args:
        config: Path of a config file, or a config.
        shape: Height and width of the images, before padding. Defaults to those of the config.
        images: The number of images that run, at most the config's batch size; what they save is
            scaled to the batch size. Batch norm needs two.
        cfg_options: Values to change in the config, by dotted key.

    Returns:
        The counts.

    Raises:
        UserError: If the config cannot be read or is of a kind that this count does not cover.
    """
    cfg = load_config(config, cfg_options)
    wrapper = _check(cfg)
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))  # as the Runner does
    size, source = ((shape[0], shape[1]), 'shape') if shape else training_size(cfg)
    if shape and (cfg.model.data_preprocessor or {}).get('size'):
        cfg.model.data_preprocessor.size = size
    scope = cfg.get('default_scope', 'mmengine')
    batch_size = cfg.train_dataloader.batch_size
    images = min(images, batch_size)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model).train()
        synced = _synced_norms(model)
        model = revert_sync_batchnorm(model)
        # Without paramwise_cfg, which changes no state.
        optimizer = OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, params=_trained(model)))
        ready = _record_ready_order(model)
        losses: list[Tensor] = []
        batch = model.data_preprocessor(random_batch(scope, size, images), training=True)
        saved = saved_bytes(lambda: losses.append(_loss(model, batch)), model)
        losses.pop().backward()
        optimizer.step()
        _check_all_ready(model, ready, wrapper)
        batch = model.data_preprocessor(random_batch(scope, size, 1), training=True)
        flops, norms = _count_calls(model, batch, synced)
    state = [v for values in optimizer.state.values() for v in values.values()]
    return StepCounts(
        batch_size=batch_size,
        image_size=tuple(batch['inputs'].shape[-2:]),
        size_source=source,
        counted_images=images,
        workers=cfg.train_dataloader.get('num_workers', 0),
        optimizer=type(optimizer).__name__,
        parameters=_nbytes([*model.parameters(), *model.buffers()]),
        gradients=_nbytes(_trained(model)),
        optimizer_state=_nbytes(v for v in state if isinstance(v, Tensor)),
        saved=saved * batch_size // images,
        forward_flops=flops,
        exchanges=(*_data_parallel_exchanges(model, ready, wrapper), *norms),
    )


def bucket_bytes(sizes: Sequence[int], limits: Sequence[int] = _BUCKET_BYTES) -> list[int]:
    """Put gradients into buckets as DDP does: one is closed when it reaches its limit.

    Args:
        sizes: The bytes of the gradients, in order.
        limits: The limit of the first bucket, of the second and so on; the last one is for all
            that follow.

    Returns:
        The bytes of the buckets, in order.
    """
    buckets: list[int] = []
    open_bytes = 0
    for size in sizes:
        open_bytes += size
        if open_bytes >= limits[min(len(buckets), len(limits) - 1)]:
            buckets.append(open_bytes)
            open_bytes = 0
    return buckets + [open_bytes] * (open_bytes > 0)


def _check(cfg: Config) -> dict:
    """Return the arguments of DDP that decide what it exchanges."""
    missing = [key for key in ('model', 'train_dataloader', 'optim_wrapper') if not cfg.get(key)]
    if missing:
        raise UserError(
            f'config {cfg.filename} has no {", ".join(missing)}; give one that can be trained'
        )
    optim = type_name(cfg.optim_wrapper.get('type', 'OptimWrapper'))
    if optim != 'OptimWrapper' or cfg.optim_wrapper.get('accumulative_counts', 1) != 1:
        raise UserError(
            f'optim_wrapper={optim} with accumulative_counts='
            f'{cfg.optim_wrapper.get("accumulative_counts", 1)} is not covered; the count is one '
            'of float32 with an exchange in every step: use OptimWrapper and 1'
        )
    # What mmengine takes if the config has none.
    wrapper = cfg.get('model_wrapper_cfg') or {
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    kind = type_name(wrapper.get('type', _WRAPPERS[0]))
    if kind not in _WRAPPERS:
        raise UserError(
            f'model_wrapper_cfg.type={kind!r} is not covered; use one of {", ".join(_WRAPPERS)}'
        )
    return dict(wrapper)


def _synced_norms(model: nn.Module) -> dict[str, bool]:
    """Return the names of the norms that exchange statistics, with whether Meta-ACON owns them."""
    return {
        name: isinstance(model.get_submodule(name.rpartition('.')[0]), MetaAcon)
        for name, module in model.named_modules()
        if is_sync_batchnorm(module) and module.training
    }


def _record_ready_order(model: nn.Module) -> list[nn.Parameter]:
    """Return a list that the backward pass fills in the order in which gradients are ready."""
    ready: list[nn.Parameter] = []
    for parameter in _trained(model):
        parameter.register_post_accumulate_grad_hook(ready.append)
    return ready


def _check_all_ready(model: nn.Module, ready: Sequence[nn.Parameter], wrapper: dict) -> None:
    missing = {id(p) for p in _trained(model)} - {id(p) for p in ready}
    if missing and not wrapper.get('find_unused_parameters'):
        names = [name for name, p in model.named_parameters() if id(p) in missing]
        raise UserError(
            f'{len(names)} parameters get no gradient, {names[0]} first: DDP stops at its second '
            'step; freeze them, or set find_unused_parameters=True'
        )


def _loss(model: BaseModel, batch: dict) -> Tensor:
    return model.parse_losses(model(**batch, mode='loss'))[0]


def _count_calls(
    model: BaseModel, batch: dict, synced: dict[str, bool]
) -> tuple[int, list[Exchange]]:
    """Count operations and the calls of synchronised norms.

    It takes a pass of its own, because hooks and the mode that counts operations keep fused
    operators from being used, which would save other maps.
    """
    exchanges: list[Exchange] = []
    with ExitStack() as stack:
        for name, in_meta_acon in synced.items():
            purpose = 'norms in Meta-ACON' if in_meta_acon else 'norms'

            def record(norm: Any, args: Any, output: Any, purpose: str = purpose) -> None:
                values = 2 * norm.num_features
                exchanges.append(Exchange('all_gather', 4 * (values + 1), f'{purpose}, forward'))
                if args[0].requires_grad:
                    exchanges.append(Exchange('all_reduce', 4 * values, f'{purpose}, backward'))

            handle = model.get_submodule(name).register_forward_hook(record)
            stack.callback(handle.remove)
        counter = stack.enter_context(FlopCounterMode(display=False))
        _loss(model.eval(), batch)  # a batch of one image has no statistics to normalise by
    return counter.get_total_flops(), exchanges


def _data_parallel_exchanges(
    model: nn.Module, ready: Sequence[nn.Parameter], wrapper: dict
) -> list[Exchange]:
    exchanges = []
    cap = wrapper.get('bucket_cap_mb')
    limits = [cap * MIB] if cap else _BUCKET_BYTES
    find_unused = wrapper.get('find_unused_parameters', False)
    # The order of the first backward pass, unless other parameters may be used in the next one.
    order = _trained(model) if find_unused else ready
    buckets = bucket_bytes([p.nbytes for p in order], limits)
    for nbytes in reversed(buckets) if find_unused else buckets:
        exchanges.append(Exchange('all_reduce', nbytes, 'gradients'))
    if find_unused:
        exchanges.append(Exchange('all_reduce', 4 * len(order), 'used parameters'))
    if wrapper.get('broadcast_buffers', True):
        for dtype in dict.fromkeys(buffer.dtype for buffer in model.buffers()):
            nbytes = _nbytes(buffer for buffer in model.buffers() if buffer.dtype == dtype)
            exchanges.append(Exchange('broadcast', nbytes, 'buffers'))
    return exchanges


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
