"""What a training loop has to save for a run that goes on exactly where it ended."""

import logging
from collections.abc import Callable
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from acon_mm.engine.exact_data import ExactLoader
from acon_mm.engine.random_state import random_state, set_random_state


def build_exact_loader(runner: Runner, dataloader: DataLoader | dict) -> ExactLoader:
    """Build the loader of a training loop as mmengine does, and make it an exact one."""
    loader = runner.build_dataloader(
        dataloader,
        seed=runner.seed,
        diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False),
    )
    return ExactLoader(loader, runner.seed)


class ResumingLoop:
    """The part that both training loops share; the other base class is a loop of mmengine.

    :class:`.AtomicCheckpointHook` saves ``state_dict`` and gives it back.

    A loop saves where it stands: ``'iter'`` behind an iteration, ``'epoch'`` behind an epoch and
    before its validation, ``'val'`` in a validation. What follows there is done after resuming:
    a validation that was due is run again.

    The random state of the training is left alone by validations.
    """

    runner: Runner
    dataloader: DataLoader
    data: ExactLoader
    val_begin: int
    val_interval: int
    _decide_current_val_interval: Callable[[], None]

    def _begin(self, data: ExactLoader) -> None:
        self.data = data
        self.dataloader = data.loader
        self._place = 'iter'
        self._resumed: dict[str, Any] | None = None
        self._before_val: dict[str, Any] | None = None

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states of all processes, by rank; every process has to call it."""
        own = {
            'place': self._place,
            'data': self.data.state_dict(),
            'random': self._before_val or random_state(),
        }
        return all_gather_object(own)

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take what :meth:`state_dict` returned; it counts when the loop is run.

        With another number of processes a warning says that the run will not be the same.
        """
        if len(states) != get_world_size():
            print_log(
                f'the checkpoint is of {len(states)} processes and there are {get_world_size()} '
                'now: the run goes on at the same epoch and iteration, with other batches and '
                'random numbers than it would have had',
                logger='current',
                level=logging.WARNING,
            )
            return
        self._resumed = states[get_rank()]

    def _take_resumed(self) -> str:
        """Go to the place of the checkpoint, and return its kind; ``''`` for a new run.

        Call it when the hooks of the train stage have been called that came before that place.
        """
        state, self._resumed = self._resumed, None
        if state is None:
            return ''
        self.data.load_state_dict(state['data'])
        set_random_state(state['random'])
        return state['place']

    def _validate_if_due(self, count: int, last: int) -> None:
        self._decide_current_val_interval()
        is_due = count >= self.val_begin and (count % self.val_interval == 0 or count == last)
        if self.runner.val_loop is None or not is_due:
            return
        self._before_val = random_state()
        self._place, place = 'val', self._place
        self.runner.val_loop.run()
        set_random_state(self._before_val)
        self._before_val, self._place = None, place
