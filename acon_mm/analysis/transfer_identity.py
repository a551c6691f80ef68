"""What decides the outcome of a step of the transfer chain, so that none is taken for another.

A step writes it to ``identity.json`` in its work dir before it starts.
"""

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from acon_mm.apis.config import load_config
from acon_mm.errors import UserError

from .transfer_files import read_json, write_json
from .transfer_plan import Step

# The environment variable by which the configs get the checkpoint of the backbone.
PRETRAINED = 'ACON_MM_PRETRAINED'

# The parts of a config that decide what comes out. Others say what is logged, kept and drawn.
_TRAINED_BY = (
    *('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'),
    *('custom_hooks', 'auto_scale_lr', 'randomness'),
)
_TESTED_BY = ('model', 'test_dataloader', 'test_evaluator', 'test_cfg')
_CHECKPOINT = 'config.model.backbone.init_cfg.checkpoint'
_RUN = 'run of the step before'
_SHOWN = 3
_ABSENT = 'absent'


@functools.cache
def step_identity(step: Step) -> dict:
    """Return what decides the outcome of a step, by dotted key.

    That is the config with all options, the seed among them, the number of processes, the data,
    and the same of the step before.
    """
    return _identity(step, _read(step.config, _state(step.config)))


def check_unchanged(step: Step) -> None:
    """Check that the config of a step still says what it said when the grid was started.

    A grid runs for hours, and each step reads its config anew.

    Raises:
        UserError: If it does not.
    """
    if _identity(step, _read(step.config, _state(step.config))) != step_identity(step):
        raise UserError(
            f'{step.config!r}, or a config it inherits from, has changed since the grid was '
            'started; undo that, or start the grid again with another --work-dir'
        )


def _identity(step: Step, base: Config) -> dict:
    cfg = load_config(base, dict(step.options), step.folder)
    parts = _TESTED_BY if step.is_test else _TRAINED_BY
    config = _flat('config', {part: cfg.get(part) for part in parts})
    config.pop(_CHECKPOINT, None)  # the chain hands on its own
    return {
        'step': step.name,
        'flags': ' '.join(step.flags),
        'processes': step.processes or 1,
        **_flat('data', step.data),
        **config,
        'after': digest(step_identity(step.after)) if step.after else None,
    }


def digest(identity: Mapping) -> str:
    """Return a short name of an identity."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differing_keys(identity: Mapping, other: Mapping) -> list[str]:
    """Return the keys that two identities do not share, or that have another value in each."""
    both = identity.keys() & other.keys()
    same = {key for key in both if identity[key] == other[key]}
    return sorted((identity.keys() | other.keys()) - same)


def check_identity(step: Step) -> None:
    """Check that the folder of a step is free, or holds this very step.

    Raises:
        UserError: If it holds another one, and the message names the first keys that differ, or
            one that started from a training that has been removed or done again since.
    """
    found = read_json(step.folder / 'identity.json')
    wanted = _claim(step)
    remove = 'give another --work-dir, or remove the folder to run the step again'
    if found is None:
        if any((step.folder / name).is_file() for name in ('last_checkpoint', 'result.json')):
            raise UserError(f'{str(step.folder)!r} holds a run of unknown settings; {remove}')
        return
    if found == wanted:
        return
    keys = differing_keys(found, wanted)
    if keys == [_RUN]:
        raise UserError(
            f'{str(step.folder)!r} started from a run of {step.after.name!r} that has been '
            'removed or replaced since; remove this folder too, to run the step again'
        )
    # The step before differs too wherever what they share does, and says less.
    keys = [key for key in keys if key not in ('after', _RUN)] or keys
    shown = '; '.join(
        f'{k} {found.get(k, _ABSENT)!r}, not {wanted.get(k, _ABSENT)!r}' for k in keys[:_SHOWN]
    )
    more = f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''
    raise UserError(
        f'{str(step.folder)!r} holds a step that was run with other settings ({shown}{more}); '
        f'{remove}'
    )


def write_identity(step: Step) -> None:
    """Claim the folder of a step for it."""
    step.folder.mkdir(parents=True, exist_ok=True)
    write_json(_claim(step), step.folder / 'identity.json')


def _claim(step: Step) -> dict:
    """Return the identity of a step with the very run it starts from, if that has ended."""
    before = read_json(step.after.folder / 'result.json') if step.after else None
    run = before and before.get('run')
    return {**step_identity(step), **({_RUN: run} if run else {})}


def _state(config: str) -> tuple:
    """Return what changes with any file that a config may inherit from: a twentieth of reading."""
    files = sorted(Path(config).parents[1].rglob('*.py'))
    return tuple((file, (stat := file.stat()).st_mtime_ns, stat.st_size) for file in files)


@functools.cache
def _read(config: str, state: tuple) -> Config:
    """Read a config in that state, whatever checkpoint the environment names."""
    named = os.environ.pop(PRETRAINED, None)
    try:
        return load_config(config)
    finally:
        if named is not None:
            os.environ[PRETRAINED] = named


def _flat(prefix: str, value: object) -> dict:
    """Return what is in nested dicts and lists, by dotted key, as JSON would return it."""
    if isinstance(value, Mapping) and value:
        parts = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(v, Mapping) for v in value):
        parts = enumerate(value)
    else:
        return {prefix: json.loads(json.dumps(value, default=str))}
    return {k: v for name, part in parts for k, v in _flat(f'{prefix}.{name}', part).items()}
