"""mmengine's loop over iterations, which goes on exactly where a checkpoint was saved."""

from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from acon_mm.registry import LOOPS

from .resuming import ResumingLoop, build_exact_loader


@LOOPS.register_module()
class IterBasedTrainLoop(ResumingLoop, MMEngineIterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop`` whose interrupted runs end as if they had not stopped.

    A resumed run draws the indices of what was trained already, and loads none of it. Each batch
    has a seed of its own (:mod:`acon_mm.engine.exact_data`).

    Args:
        runner: The runner.
        dataloader: The loader, or a dict to build it from.
        max_iters: How many iterations to train.
        **kwargs: Same as in :class:`mmengine.runner.IterBasedTrainLoop`.

    Raises:
        UserError: If the loader makes no batches of indices.
    """

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict, max_iters: int, **kwargs: Any
    ) -> None:
        data = build_exact_loader(runner, dataloader)
        # The base class starts an iterator at once, which would start workers and use up the
        # sampler: it gets a loader that does nothing until it is asked.
        super().__init__(runner, DataLoader(data.loader.dataset), max_iters, **kwargs)
        self._begin(data)
        self.dataloader_iterator = data.endless()

    def run(self) -> nn.Module:
        """Train, from the place of the checkpoint if there is one."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self._resumed is None:
            # Another's checkpoint tells the iteration only.
            is_endless = isinstance(self.data.sampler, InfiniteSampler)
            length = len(self.dataloader)
            self.data.go_to(*((0, self._iter) if is_endless else divmod(self._iter, length)))
        elif self._take_resumed() == 'iter':
            self._validate_if_due(self._iter, self._max_iters)
        self._place = 'iter'
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model
