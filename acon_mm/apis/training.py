"""Train a model of mmdet, mmpretrain or mmsegmentation from its config."""

import logging
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from acon_mm.checkpoints.finding import POINTER, find_newest_whole, pointed_at
from acon_mm.engine.data_check import check_checkpoints, check_data
from acon_mm.engine.dataset_check import check_dataset
from acon_mm.engine.launch import is_first_process, is_restarted, prepare_launch
from acon_mm.engine.work_dir import only_run_in
from acon_mm.errors import UserError
from acon_mm.registry import type_name

from .config import build_runner, load_checked_config, require_fit, require_keys
from .schedule import schedule_gaps

# The devices that mmengine's AmpOptimWrapper accepts.
AMP_DEVICES = ('cuda', 'npu', 'mlu', 'musa')


def train(
    config: str | os.PathLike | Config,
    *,
    work_dir: str | os.PathLike | None = None,
    resume: bool | str | os.PathLike = False,
    amp: bool = False,
    auto_scale_lr: bool = False,
    allow_partial: bool = False,
    cfg_options: dict | None = None,
    launcher: str = 'none',
) -> Runner:
    """Train from a config; ``default_scope`` in it says which library it is for.

    Args:
        config: Path of a config file, or a config.
        work_dir: Where logs and checkpoints go. Defaults to ``./work_dirs/`` and the config's
            name.
        resume: ``True`` or ``'auto'`` continues from the newest checkpoint in ``work_dir`` that is
            whole, and starts from the beginning if there is none; a path continues from that
            checkpoint. A job that torchrun or Slurm starts again continues by itself from what it
            saved.
        amp: Train in mixed precision.
        auto_scale_lr: Scale the learning rate by the real batch size over
            ``cfg.auto_scale_lr.base_batch_size``.
        allow_partial: Whether ``load_from`` may fit the model only in part; a warning lists the
            rest.
        cfg_options: Values to change in the config, by dotted key.
        launcher: What started the processes: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Returns:
        The runner, after training.

    Raises:
        UserError: If the config, an argument, a checkpoint or the data does not allow the run;
            raised before the first step, and before a model is built unless it is a checkpoint
            that does not fit the model.
    """
    cfg = load_checked_config(config, cfg_options, work_dir)
    require_keys(cfg, 'model', 'train_dataloader', 'train_cfg')
    require_fit(cfg, allow_partial)
    if resume:
        _resume(cfg, resume)
    elif is_restarted() and pointed_at(cfg.work_dir) is not None:
        _resume(cfg, True)
    if amp:
        _use_amp(cfg)
    if auto_scale_lr:
        _scale_lr(cfg)
    splits = ('train', 'val') if cfg.get('val_cfg') else ('train',)
    check_data(cfg, splits)
    if is_first_process():
        for line in check_dataset(cfg, splits):
            print_log(f'left out of the data: {line}', logger='current', level=logging.WARNING)
    check_checkpoints(cfg)
    for line in schedule_gaps(cfg):
        print_log(line, logger='current', level=logging.WARNING)
    prepare_launch(cfg, launcher)
    # mmengine would compile the step of the optimizer as well, which Dynamo does not take.
    compiling = cfg.pop('compile', None)
    with only_run_in(cfg.work_dir):
        runner = build_runner(cfg)
        if compiling or compiling == {}:
            _compile(runner, {} if compiling is True else compiling)
        if not (cfg.get('resume') or is_restarted()):
            _forget_earlier_run(cfg.work_dir)
        runner.train()
    if not runner.iter:
        raise UserError(
            'nothing was trained: train_dataloader has no batch; with drop_last=True its data set '
            'has to hold a batch, train_dataloader.batch_size samples for each process'
        )
    return runner


def _compile(runner: Runner, options: dict) -> None:
    """Compile what is called with tensors alone, where Dynamo finds no reason to give up."""
    model = runner.model
    while is_model_wrapper(model):
        model = model.module
    parts = [part for name, part in model.named_children() if name in ('backbone', 'neck')]
    if not parts or not hasattr(torch.nn.Module, 'compile'):
        raise UserError(
            f'compile={options or True!r} compiles model.backbone and model.neck by '
            f'torch.nn.Module.compile; {type(model).__name__} has neither, or torch '
            f'{torch.__version__} is too old; train without it'
        )
    for part in parts:
        part.compile(**options)
    runner.logger.info('backbone and neck are compiled; the first iterations are slow')


@master_only
def _forget_earlier_run(work_dir: str) -> None:
    """Let a job that is started again before its first checkpoint not go on from another run's."""
    Path(work_dir, POINTER).unlink(missing_ok=True)


def _resume(cfg: Config, resume: bool | str | os.PathLike) -> None:
    if isinstance(resume, bool) or resume == 'auto':
        newest, named = find_newest_whole(cfg.work_dir), pointed_at(cfg.work_dir)
        if newest is None and named is None:
            return  # a first start: keep the config's own `load_from`
        if newest is None:
            raise UserError(
                f'{POINTER} in {cfg.work_dir} names {str(named)!r}, but neither it nor any other '
                'checkpoint there is whole; give --resume the path of a checkpoint, or leave it '
                'away to start from the beginning'
            )
        latest = str(newest)
    else:
        latest = os.fspath(resume)
    if '://' not in latest and not Path(latest).expanduser().is_file():
        raise UserError(
            f'resume names {latest!r}, which does not exist; give --resume the path of '
            'an existing checkpoint, or omit it to start from the beginning'
        )
    cfg.resume, cfg.load_from = True, latest


def _use_amp(cfg: Config) -> None:
    if get_device() not in AMP_DEVICES:
        raise UserError(
            f'amp=True needs a device of {", ".join(AMP_DEVICES)} and this machine has none; '
            'train without --amp'
        )
    wrapper = cfg.get('optim_wrapper')
    if not wrapper:
        raise UserError(
            'amp=True changes optim_wrapper, which the config does not have; add it, or train '
            'without --amp'
        )
    kind = type_name(wrapper.get('type', 'OptimWrapper'))
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(
            f'amp=True replaces OptimWrapper by AmpOptimWrapper, but optim_wrapper.type is '
            f'{kind!r}; train without --amp, or change the type'
        )
    wrapper.type = 'mmengine.AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')


def _scale_lr(cfg: Config) -> None:
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not isinstance(base, int) or base < 1:
        raise UserError(
            f'auto_scale_lr needs the batch size that the learning rate is meant for, but '
            f'auto_scale_lr.base_batch_size is {base!r}; set it, as in --cfg-options '
            'auto_scale_lr.base_batch_size=16'
        )
    cfg.auto_scale_lr.enable = True
    counts = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if counts > 1:
        # mmengine compares it with the batch of an iteration, and a step has several of them.
        cfg.auto_scale_lr.base_batch_size = base / counts
        print_log(
            f'a step accumulates {counts} iterations, so auto_scale_lr.base_batch_size={base} is '
            f'taken for {base / counts:g} samples of each',
            logger='current',
        )
