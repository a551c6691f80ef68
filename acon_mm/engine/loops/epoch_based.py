"""mmengine's loop over epochs, which goes on exactly where a checkpoint was saved."""

from typing import Any

from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from acon_mm.registry import LOOPS

from .resuming import ResumingLoop, build_exact_loader


@LOOPS.register_module()
class EpochBasedTrainLoop(ResumingLoop, MMEngineEpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop`` whose interrupted runs end as if they had not stopped.

    With :class:`.AtomicCheckpointHook`, an epoch may be interrupted in its middle as well. Each
    batch has a seed of its own (:mod:`acon_mm.engine.exact_data`).

    Args:
        runner: The runner.
        dataloader: The loader, or a dict to build it from.
        max_epochs: How many epochs to train.
        **kwargs: Same as in :class:`mmengine.runner.EpochBasedTrainLoop`.

    Raises:
        UserError: If the loader makes no batches of indices.
    """

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict, max_epochs: int, **kwargs: Any
    ) -> None:
        data = build_exact_loader(runner, dataloader)
        super().__init__(runner, data.loader, max_epochs, **kwargs)
        self._begin(data)

    def run(self) -> nn.Module:
        """Train, from the place of the checkpoint if there is one."""
        self.runner.call_hook('before_train')
        if self._resumed is None:
            # Another's checkpoint tells the iteration only.
            self.data.go_to(self._epoch, self._iter - self._epoch * len(self.dataloader))
        elif self._resumed['place'] != 'iter' and self._take_resumed() == 'epoch':
            self._validate_if_due(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train what is left of an epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        if not self._take_resumed() and self.data.epoch != self._epoch:
            self.data.go_to(self._epoch)
        self._place = 'iter'
        for data_batch in self.data.rest_of_epoch():
            self.run_iter(self.data.batch - 1, data_batch)
        self._place = 'epoch'
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
