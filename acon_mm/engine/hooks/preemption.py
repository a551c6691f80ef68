"""A signal of the cluster makes a training save where it stands, and end."""

import signal
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from acon_mm.errors import REQUEUE_STATUS, Interrupted, UserError
from acon_mm.registry import HOOKS

from .atomic_checkpoint import AtomicCheckpointHook


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint and end with status 75 after ``SIGTERM`` or ``SIGUSR1``.

    Slurm sends such a signal before it takes the machines away (``--signal=USR1@120``), torchrun
    passes ``SIGTERM`` on to its processes. The checkpoint is that of an iteration; a resumed run
    goes on with the next one. A second signal ends the process at once.

    Where ``default_hooks.checkpoint`` is None there is nothing to save, and the hook does nothing.

    Several processes agree on the iteration every ``interval`` iterations, by a sum of one number.

    Args:
        signals: The names of the signals.
        interval: The iterations between two agreements of several processes.

    Raises:
        UserError: When the training starts, if the checkpoint hook is another one than
            :class:`.AtomicCheckpointHook`.
    """

    priority = 'LOWEST'

    def __init__(
        self, signals: tuple[str, ...] = ('SIGTERM', 'SIGUSR1'), interval: int = 10
    ) -> None:
        self.signals = signals
        self.interval = interval
        self._received = ''
        self._before: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Listen to the signals."""
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        self._checkpoint_hook = hooks[0] if hooks else None
        if self._checkpoint_hook is None:
            return
        if not isinstance(self._checkpoint_hook, AtomicCheckpointHook):
            raise UserError(
                'acon_mm.PreemptionHook saves by acon_mm.AtomicCheckpointHook, and the config has '
                f'{type(self._checkpoint_hook).__name__}; set '
                "default_hooks.checkpoint.type='acon_mm.AtomicCheckpointHook'"
            )
        for name in self.signals:
            number = getattr(signal, name)
            self._before[number] = signal.signal(number, self._note)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Save and end, if a process got a signal.

        Raises:
            Interrupted: Then, with the exit status 75.
        """
        if self._checkpoint_hook is None:
            return
        is_asked = bool(self._received)
        if get_world_size() > 1:
            if not self.every_n_train_iters(runner, self.interval):
                return
            count = torch.tensor([int(is_asked)], device=get_device())
            all_reduce(count)
            is_asked = bool(count.item())
        if not is_asked:
            return
        self._checkpoint_hook.save_interrupted(runner)
        runner.logger.warning(
            f'interrupted by {self._received or "the signal of another process"}: saved '
            f'{self._checkpoint_hook.last_ckpt!r}, exit status {REQUEUE_STATUS}; '
            'the same command with --resume goes on'
        )
        self.after_train(runner)
        raise Interrupted

    def after_train(self, runner: Runner) -> None:
        """Leave the signals to what was set before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: Any) -> None:
        self._received = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)
