"""From a config file and the options of a script to the config of one run."""

import os
import traceback
from copy import deepcopy
from importlib import import_module
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from acon_mm.errors import TRACEBACK_VARIABLE, UserError, requires_extra

from .config_check import check_config

# What mmengine raises when a key has no such child.
_OPTION_ERRORS = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)

# What classes raise when an argument is missing, unknown or of a value that they do not take.
_BUILD_ERRORS = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)

# The extra of each default_scope, and its packages. `import mmseg` alone does not import ftfy.
_LIBRARIES = {'mmdet': ('det', ('mmdet',)), 'mmseg': ('seg', ('mmseg', 'ftfy', 'regex'))}


def load_config(
    config: str | os.PathLike | Config,
    cfg_options: dict | None = None,
    work_dir: str | os.PathLike | None = None,
) -> Config:
    """Read a config, change some of its values and choose its work dir.

    Args:
        config: Path of a config file, the same below the configs of an installed package
            (``'acon_mm::detection/retinanet_r50_metaacon.py'``), or a config, which is left as it
            is.
        cfg_options: Values by dotted key, such as ``{'train_cfg.max_epochs': 1}``.
        work_dir: Where logs and checkpoints go. Defaults to the config's ``work_dir``, then to
            ``./work_dirs/`` and the config's name.

    Returns:
        A config of its own, with ``work_dir`` set.

    Raises:
        UserError: If the config cannot be read, an option does not fit it, or the library of its
            ``default_scope`` is not installed.
    """
    cfg = deepcopy(config) if isinstance(config, Config) else _read(os.fspath(config))
    try:
        cfg.merge_from_dict(cfg_options or {})
    except _OPTION_ERRORS as error:
        raise UserError(f'cfg_options {cfg_options} do not fit the config: {error}') from error
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif not cfg.get('work_dir'):
        name = Path(cfg.filename).stem if cfg.filename else 'unnamed'
        cfg.work_dir = str(Path('work_dirs', name))
    _check_library(cfg.get('default_scope'))
    _set_loader_defaults(cfg)
    return cfg


def load_checked_config(
    config: str | os.PathLike | Config,
    cfg_options: dict | None = None,
    work_dir: str | os.PathLike | None = None,
) -> Config:
    """Read a config for a run: :func:`load_config`, then :func:`.check_config`.

    Args:
        config: Same as in :func:`load_config`, as are the others.
        cfg_options: See there.
        work_dir: See there.

    Raises:
        UserError: As both do.
    """
    cfg = load_config(config, cfg_options, work_dir)
    check_config(cfg, cfg_options)
    return cfg


def require_keys(cfg: Config, *keys: str) -> None:
    """Raise a :class:`UserError` that names the keys which a config lacks or leaves empty."""
    missing = [key for key in keys if not cfg.get(key)]
    if missing:
        raise UserError(
            f'config {cfg.filename} has no {", ".join(missing)}, which this run needs; give a '
            'config from configs/, outside _base_'
        )


def require_fit(cfg: Config, allow_partial: bool) -> None:
    """Have checkpoints refused that do not fill the model, also by a config without our hooks.

    Args:
        cfg: The config, changed in place.
        allow_partial: Whether to load what fits, with a warning.
    """
    hook = {'type': 'acon_mm.CheckpointFitHook', 'allow_partial': allow_partial}
    cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'fit': hook}


def build_runner(cfg: Config) -> Runner:
    """Build the runner that ``cfg.runner_type`` names, mmengine's ``Runner`` by default.

    Args:
        cfg: The config of the run, which the runner keeps.

    Returns:
        The runner, which has built nothing of the data yet.

    Raises:
        UserError: If a class refuses what the config says.
    """
    try:
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    except UserError:
        raise
    except _BUILD_ERRORS as error:
        reason = ' '.join(str(error).split())
        raise UserError(
            f'config {cfg.filename} cannot be built: {type(error).__name__}: {reason} '
            f'({TRACEBACK_VARIABLE}=1 shows where)'
        ) from error
    return runner


def _read(config: str) -> Config:
    path = Path(config).expanduser()
    in_package = '::' in config and not path.is_file()
    if not in_package and not path.is_file():
        raise UserError(f'config {config!r} does not exist (looked in {Path.cwd()})')
    try:
        return get_config(config) if in_package else Config.fromfile(path)
    except Exception as error:  # a config is a program and may raise anything
        reason = ' '.join(str(error).split())
        raise UserError(
            f'config {config!r} cannot be read: {type(error).__name__}: {reason}'
            f'{_place_in_config(error)}'
        ) from error


def _place_in_config(error: Exception) -> str:
    """Return the line of a config file that raised an error, nothing if none did."""
    frames = traceback.walk_tb(error.__traceback__)
    # The code of a config runs outside of any module.
    lines = [(f.f_code.co_filename, line) for f, line in frames if '__name__' not in f.f_globals]
    return f' (line {lines[-1][1]} of {lines[-1][0]!r})' if lines else ''


def _check_library(scope: str | None) -> None:
    """Check that the library which a config is for is installed.

    mmengine only warns that it finds no registry there, and then finds none of its names.
    """
    if scope not in _LIBRARIES:
        return
    extra, packages = _LIBRARIES[scope]
    with requires_extra(extra, f'a config with default_scope={scope!r}'):
        for package in packages:
            import_module(package)


def _set_loader_defaults(cfg: Config) -> None:
    """Let loaders and validation follow what one of their values says.

    Without workers, what belongs to workers goes; without one part of a validation or test, the
    other two go; mmpretrain's loaders get what its own scripts give them and its configs rely on.
    """
    for split in ('val', 'test'):
        parts = [f'{split}_{part}' for part in ('dataloader', 'cfg', 'evaluator')]
        if any(part in cfg and cfg[part] is None for part in parts):
            cfg.update(dict.fromkeys(parts))
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if isinstance(loader, dict) and loader.get('num_workers', 0) == 0:
            loader.pop('prefetch_factor', None)
            if loader.get('persistent_workers'):
                loader['persistent_workers'] = False
    if cfg.get('default_scope') != 'mmpretrain':
        return
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if isinstance(loader, dict):
            loader.setdefault('collate_fn', {'type': 'default_collate'})
            loader.setdefault('pin_memory', torch.cuda.is_available())
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)
