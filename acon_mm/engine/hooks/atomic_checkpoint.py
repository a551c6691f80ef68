"""Saving so that a run which is killed at any instant finds a whole checkpoint to go on from."""

import os
from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from acon_mm.checkpoints.finding import POINTER, find_newest_whole
from acon_mm.checkpoints.record import SUFFIX
from acon_mm.checkpoints.writing import TEMPORARY_GLOB, WholeFileBackend, write_whole
from acon_mm.engine.loops.resuming import ResumingLoop
from acon_mm.registry import HOOKS

_INTERRUPTED = 'interrupted'


class _LateRemoval(WholeFileBackend):
    """A backend that notes what is to be removed, and leaves it."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def remove(self, filepath: str | os.PathLike) -> None:
        self.noted.append(os.fspath(filepath))


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, whose files are whole whenever the process ends.

    A checkpoint is written beside its place, flushed to the disk, read back and renamed; then
    ``last_checkpoint`` is written the same way, relative to the work dir; only then goes what
    ``max_keep_ckpts`` and ``save_best`` no longer keep. Beside each checkpoint lies its checksum
    (:mod:`acon_mm.checkpoints.record`). Remains of a process that was killed go at the next start.

    Where the config says ``resume=True`` without a path, the run goes on from the newest
    checkpoint that is whole.

    Folders on another machine (``s3://``, ``backend_args``) are left to mmengine.

    Args:
        *args: Same as in :class:`mmengine.hooks.CheckpointHook`.
        **kwargs: Same as in :class:`mmengine.hooks.CheckpointHook`.
    """

    backend_args: dict | None
    file_backend: BaseStorageBackend
    keep_ckpt_ids: deque
    _loop_state: list[dict[str, Any]] | None = None

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint to resume from, before mmengine reads ``last_checkpoint``."""
        if runner._resume and runner._load_from is None:
            found = [find_newest_whole(runner.work_dir) if is_main_process() else None]
            broadcast_object_list(found)
            runner._load_from = None if found[0] is None else str(found[0])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what a loop of acon_mm needs to go on exactly here."""
        if self._loop_state is not None:
            checkpoint['train_loop'] = self._loop_state
            self._loop_state = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Give the loop its state back."""
        loop = runner.train_loop if runner._resume else None
        if isinstance(loop, ResumingLoop) and 'train_loop' in checkpoint:
            loop.load_state_dict(checkpoint['train_loop'])

    def before_train(self, runner: Runner) -> None:
        """Take over what a resumed run keeps, and remove the remains of a dead process."""
        folder = str(self.out_dir or runner.work_dir)
        self._is_local = (
            self.backend_args is None and self.file_client_args is None and '://' not in folder
        )
        if self._is_local:
            self.backend_args = {'backend': 'acon_mm'}
        super().before_train(runner)
        if self.max_keep_ckpts > 0:
            # Without mmengine's limit, which would drop a name before its file.
            self.keep_ckpt_ids = deque(self.keep_ckpt_ids)
        if self._is_local:
            self._rebase(runner)
            if is_main_process():
                _remove_remains(Path(self.out_dir))

    def _rebase(self, runner: Runner) -> None:
        """Look for the files of a work dir that was moved or copied where it is now."""
        hub = runner.message_hub

        def here(key: str) -> str | None:
            path = hub.runtime_info.get(key)
            if path is None:
                return None
            hub.update_info(key, os.path.join(self.out_dir, os.path.basename(path)))
            return hub.get_info(key)

        self.last_ckpt = here('last_ckpt')
        if self.save_best is not None and len(self.key_indicators) == 1:
            self.best_ckpt_path = here('best_ckpt')
        elif self.save_best is not None:
            for name in self.key_indicators:
                self.best_ckpt_path_dict[name] = here(f'best_ckpt_{name}')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if not self._is_local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        if self.max_keep_ckpts > 0:
            if not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step:
                self.keep_ckpt_ids.append(step)
            # With those that go now: a process that ends before has them removed when it resumes.
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self._save_whole(runner, self.filename_tmpl.format(step), meta)
        if self.max_keep_ckpts > 0:
            while len(self.keep_ckpt_ids) > self.max_keep_ckpts:
                self._remove(self.filename_tmpl.format(self.keep_ckpt_ids.popleft()))
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def save_interrupted(self, runner: Runner) -> None:
        """Save behind an iteration, whatever the interval; the next regular save removes it."""
        meta = {'epoch': runner.epoch, 'iter': runner.iter + 1}
        where = f'epoch_{runner.epoch}_iter' if self.by_epoch else 'iter'
        self._save_whole(runner, f'{_INTERRUPTED}_{where}_{runner.iter + 1}.pth', meta)

    def _save_whole(self, runner: Runner, name: str, meta: dict) -> None:
        self.last_ckpt = os.path.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        # Every process has a part in it, and mmengine calls the first one alone when it saves.
        loop = runner.train_loop
        self._loop_state = loop.state_dict() if isinstance(loop, ResumingLoop) else None
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            pointer = os.path.relpath(self.last_ckpt, runner.work_dir)
            path = Path(runner.work_dir, POINTER)
            write_whole(path, lambda file: file.write(pointer.encode()))
            for path in Path(self.out_dir).glob(f'{_INTERRUPTED}_*.pth'):
                if path.name != name:
                    self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        if not self._is_local:
            super()._save_best_checkpoint(runner, metrics)
            return
        # mmengine removes the last best one before it writes the new one.
        late = _LateRemoval()
        backend, self.file_backend = self.file_backend, late
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        kept = [getattr(self, 'best_ckpt_path', None), self.last_ckpt]
        kept += getattr(self, 'best_ckpt_path_dict', {}).values()
        for path in late.noted:
            if path not in kept:
                backend.remove(path)

    def _remove(self, name: str) -> None:
        path = os.path.join(self.out_dir, name)
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)


def _remove_remains(folder: Path) -> None:
    """Remove what a killed process left: half of a file, or the record of a file that is gone."""
    for path in folder.glob(TEMPORARY_GLOB):
        path.unlink(missing_ok=True)
    for path in folder.glob(f'*.pth{SUFFIX}'):
        if not path.with_name(path.name.removesuffix(SUFFIX)).exists():
            path.unlink(missing_ok=True)
