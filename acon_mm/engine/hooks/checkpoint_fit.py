"""No run starts from a checkpoint that does not fill its model."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from acon_mm.checkpoints.config_text import values_in
from acon_mm.checkpoints.state_dict import state_dict_of
from acon_mm.errors import CheckpointMisfitError
from acon_mm.registry import HOOKS

_SHOWN = 3
_SHAPES = re.compile(
    r'size mismatch for (\S+): copying a param with shape (.*) from checkpoint, '
    r'the shape in current model is (.*)\.'
)
# Of the hyperparameters of a group, those that tell one optimizer from another in all versions.
_TELLING = {'alpha', 'betas', 'centered', 'dampening', 'etas', 'lambd', 'lr_decay', 'rho'}
# What may differ between the parts of one run.
_PASSING = ('work_dir', 'load_from', 'resume', 'launcher', 'log_level', 'experiment_name')


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Refuse a checkpoint that does not fill the model, in a training, a test or a resume.

    mmengine loads what has a name and a shape in common, logs the rest and goes on.

    A resumed run also needs the optimizer, and the log says what changed in the config since.

    Args:
        allow_partial: Whether to load what fits, with a warning that lists all the rest. A resume
            is refused all the same.
    """

    priority = 'VERY_HIGH'

    def __init__(self, allow_partial: bool = False) -> None:
        self.allow_partial = allow_partial

    def after_load_checkpoint(self, runner: Runner, checkpoint: Any) -> None:
        """Compare what was read with what is to be filled.

        Raises:
            CheckpointMisfitError: If they differ. One sentence, with the first keys of each kind.
        """
        path = str(runner._load_from)
        found = misfits(runner.model, checkpoint, path)
        if runner._resume:
            self._check_resume(runner, checkpoint, path, found)
        elif found and not self.allow_partial:
            raise CheckpointMisfitError(
                f'checkpoint {path!r} does not fit the model of this config ({_listed(found)}); '
                'give the one that belongs to it, or load what fits with --allow-partial'
            )
        elif found:
            runner.logger.warning(
                f'checkpoint {path!r} fits only in part: {_listed(found, len(str(found)))}'
            )

    def _check_resume(
        self, runner: Runner, checkpoint: Mapping, path: str, found: Mapping[str, Sequence[str]]
    ) -> None:
        meta = checkpoint.get('meta') or {}
        if not {'epoch', 'iter'} <= set(meta) or 'message_hub' not in checkpoint:
            raise CheckpointMisfitError(
                f'checkpoint {path!r} holds weights but no state of a training, so it cannot be '
                'resumed; start from its weights with --cfg-options load_from=PATH'
            )
        if not found and 'optimizer' in checkpoint:
            found = _optimizer_misfits(checkpoint['optimizer'], runner.optim_wrapper.state_dict())
        if found:
            raise CheckpointMisfitError(
                f'checkpoint {path!r} is of another run ({_listed(found)}); resume with the '
                'config of that run, or start from its weights with --cfg-options '
                'load_from=PATH --allow-partial'
            )
        changes = _changes(meta.get('cfg'), runner.cfg.pretty_text)
        processes = len(checkpoint.get('train_loop') or [])
        if processes not in (0, get_world_size()):
            changes.append(f'processes: {processes} → {get_world_size()}')
        if changes:
            runner.logger.warning('changed since the checkpoint was saved: ' + ', '.join(changes))


def misfits(model: nn.Module, checkpoint: Any, path: str) -> dict[str, list[str]]:
    """Return the keys by which a checkpoint and a model differ, by the kind of difference.

    What fits is loaded. Old names, which modules translate while they load, are no difference.

    Args:
        model: The model, also in data parallelism or test-time augmentation; others that share
            their parameters out among processes are not compared.
        checkpoint: A state dict, or a mapping with one under ``state_dict``.
        path: Where it is from, for messages.

    Raises:
        UserError: If there is no state dict.
    """
    while isinstance(model, (BaseTTAModel, DistributedDataParallel)):
        model = model.module
    if is_model_wrapper(model):
        return {}
    content = OrderedDict(state_dict_of(checkpoint, path))
    saved = checkpoint.get('state_dict', checkpoint)
    content._metadata = getattr(saved, '_metadata', {})  # type: ignore[attr-defined]
    try:
        result = model.load_state_dict(content, strict=False)
    except RuntimeError as error:
        shapes = _SHAPES.findall(str(error))
        found = [f'{key} ({there} instead of {here})' for key, there, here in shapes]
        return {'of another shape': found or [' '.join(str(error).split())]}
    missing = [k for k in result.missing_keys if not k.endswith('num_batches_tracked')]
    kinds = {'missing': missing, 'unexpected': list(result.unexpected_keys)}
    return {kind: keys for kind, keys in kinds.items() if keys}


def _optimizer_misfits(saved: Mapping, own: Mapping) -> dict[str, list[str]]:
    if 'param_groups' not in saved or 'param_groups' not in own:
        return {}  # several optimizers
    options = [{key for g in x['param_groups'] for key in g} & _TELLING for x in (saved, own)]
    if options[0] != options[1]:
        names = [', '.join(sorted(x)) or 'neither of these' for x in options]
        return {'another optimizer': [f'options {names[0]} instead of {names[1]}']}
    sizes = [[len(group['params']) for group in x['param_groups']] for x in (saved, own)]
    if sizes[0] != sizes[1]:
        counts = [f'{sum(size)} parameters in {len(size)} groups' for size in sizes]
        return {'another optimizer': [f'{counts[0]} instead of {counts[1]}']}
    return {}


def _changes(saved: Any, own: str) -> list[str]:
    before, now = values_in(saved), values_in(own)
    if not before or not now:
        return []
    return [
        f'{key}: {before.get(key, "absent")!r} → {now.get(key, "absent")!r}'
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not key.startswith(_PASSING)
    ]


def _listed(found: Mapping[str, Sequence[str]], shown: int = _SHOWN) -> str:
    parts = []
    for kind, keys in found.items():
        more = len(keys) - shown
        parts.append(
            f'{kind}: {", ".join(keys[:shown])}' + (f' and {more} more' if more > 0 else '')
        )
    return '; '.join(parts)
