"""Training data whose batches are a function of a seed, a process, an epoch and a number.

mm* transforms draw from the generators of the process that loads: of a worker, whose state
nobody can save, since it runs ahead of the training; mmengine seeds it alike each time that it
starts, so without ``persistent_workers`` each epoch repeats the augmentation of the first. Here
each batch has a seed of its own. Then nothing of a worker has to be saved, a run goes on at any
batch after skipping indices only, and the number of workers changes nothing.

torchdata's ``StatefulDataLoader`` does not fit: mmengine builds torch's ``DataLoader`` by name;
and it saves the position of a sampler and the states that a data set offers, which those of mm*
do not, but none of the generators that they draw from.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, Dataset

from acon_mm.errors import UserError

from .random_state import seeded

_END = object()


class SampleError(UserError):
    """A sample of the training data cannot be loaded."""


class _Batch(NamedTuple):
    seeds: tuple[int, ...]
    indices: Sequence


class SeededDataset(Dataset):
    """A data set that loads each batch with a seed of the batch.

    Attributes are those of the data set inside, so hooks read and set them there.

    Args:
        dataset: The data set inside.
    """

    def __init__(self, dataset: Dataset) -> None:
        object.__setattr__(self, 'wrapped', dataset)

    def __getattr__(self, name: str) -> Any:
        if name == 'wrapped':  # not set yet, while a worker unpickles
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.wrapped, name, value)

    def __reduce__(self) -> tuple:
        return type(self), (self.wrapped,)

    def __len__(self) -> int:
        return len(self.wrapped)

    def __getitem__(self, index: Any) -> Any:
        return self.wrapped[index]

    def __getitems__(self, batch: _Batch) -> list:
        """Load a batch, as torch's loaders ask for it."""
        with seeded(*batch.seeds):
            return [self._load(index) for index in batch.indices]

    def _load(self, index: Any) -> Any:
        try:
            return self.wrapped[index]
        except UserError:
            raise
        except Exception as error:
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise SampleError(
                f'sample {index}{self._file_of(index)} cannot be loaded ({reason}); '
                'tools/misc/check_dataset.py CONFIG names every damaged file'
            ) from error

    def _file_of(self, index: Any) -> str:
        try:
            path = self.wrapped.get_data_info(index)['img_path']
        except Exception:  # not every data set knows the file
            return ''
        return f' of {str(path)!r}'


class NumberedBatches:
    """The batches of a batch sampler with their seeds; it starts anywhere without loading.

    Other attributes are those of the batch sampler inside.

    Args:
        batch_sampler: The batch sampler inside.
        seed: The seed of the run.

    Attributes:
        epoch: The number of the pass over the data, which the next iterator takes over.
        start: How many batches the next iterator leaves out.
    """

    def __init__(self, batch_sampler: Any, seed: int) -> None:
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.rank = get_rank()
        self.epoch = 0
        self.start = 0

    def __getattr__(self, name: str) -> Any:
        if name == 'batch_sampler':
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[_Batch]:
        # Read now: with workers, torch asks twice for an iterator and uses the second.
        return self._batches(self.start, self.epoch)

    def _batches(self, start: int, epoch: int) -> Iterator[_Batch]:
        for number, indices in islice(enumerate(self.batch_sampler), start, None):
            yield _Batch((self.seed, self.rank, epoch, number), indices)


class ExactLoader:
    """A loader of training data and the place in it.

    Args:
        loader: The loader that mmengine built.
        seed: The seed of the run.

    Attributes:
        loader: The loader to iterate over, with the data, sampler and workers of the given one.
        epoch: The number of the pass over the data.
        batch: How many batches of this pass were given out.

    Raises:
        UserError: If the loader does not make batches of indices.
    """

    def __init__(self, loader: DataLoader, seed: int) -> None:
        if loader.batch_sampler is None:
            raise UserError(
                'train_dataloader makes no batches of indices (batch_size=None or a data set '
                'without indices), so a run cannot go on in the middle; use the loop of mmengine'
            )
        self.batches = NumberedBatches(loader.batch_sampler, seed)
        workers: dict[str, Any] = {}
        if loader.num_workers:
            workers = {
                'multiprocessing_context': loader.multiprocessing_context,
                'persistent_workers': loader.persistent_workers,
                'prefetch_factor': loader.prefetch_factor,
                'timeout': loader.timeout,
                'worker_init_fn': loader.worker_init_fn,
            }
        self.loader = DataLoader(
            SeededDataset(loader.dataset),
            batch_sampler=self.batches,  # type: ignore[arg-type]
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            # An iterator draws a number, and from torch's own generator it would shift dropout.
            generator=torch.Generator(),
            **workers,
        )
        self.epoch = 0
        self.batch = 0
        self._iterator: Iterator | None = None

    def state_dict(self) -> dict[str, int]:
        """Return the place and the seeds."""
        state = {'epoch': self.epoch, 'batch': self.batch, 'seed': self.batches.seed}
        sampler_seed = getattr(self.sampler, 'seed', None)
        return state if sampler_seed is None else {**state, 'sampler_seed': sampler_seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to the place; nothing is loaded, and the samplers draw indices at the next batch."""
        self.go_to(state['epoch'], state['batch'])
        self.batches.seed = state['seed']
        if 'sampler_seed' in state:
            self.sampler.seed = state['sampler_seed']

    def go_to(self, epoch: int, batch: int = 0) -> None:
        """Go to a batch of a pass over the data."""
        self.epoch, self.batch = epoch, batch
        self._iterator = None

    def rest_of_epoch(self) -> Iterator:
        """Yield the batches from this place to the end of the pass."""
        if self._iterator is None:
            self.batches.epoch, self.batches.start = self.epoch, self.batch
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(self.epoch)
            self._iterator = iter(self.loader)
        while (data := self._next(self._iterator)) is not _END:
            self.batch += 1
            yield data
        self._iterator = None

    @staticmethod
    def _next(iterator: Iterator) -> Any:
        try:
            return next(iterator, _END)
        except SampleError as error:
            # A worker's comes with its traceback, which ends in the sentence.
            last = str(error).strip().rpartition('\n')[2]
            raise SampleError(last.partition(f'{SampleError.__name__}: ')[2] or last) from error

    def endless(self) -> Iterator:
        """Yield batches from this place on, pass after pass."""
        while True:
            yield from self.rest_of_epoch()
            self.go_to(self.epoch + 1)

    @property
    def sampler(self) -> Any:
        """The sampler of indices."""
        return getattr(self.batches.batch_sampler, 'sampler', None)
