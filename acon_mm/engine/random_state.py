"""The random generators of a process: saved, set, and set for a while."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state(*, with_devices: bool = True) -> dict[str, Any]:
    """Return the states of the generators of Python, numpy, torch and every CUDA device.

    Args:
        with_devices: Whether to read those of the CUDA devices.

    Returns:
        Numbers, tuples and tensors, which a checkpoint may hold.
    """
    _, keys, *rest = np.random.get_state(legacy=True)
    assert isinstance(keys, np.ndarray)  # the annotation allows any of the five to be its name
    state: dict[str, Any] = {
        'python': random.getstate(),
        'numpy': (torch.from_numpy(keys.astype(np.int64)), *rest),
        'torch': torch.get_rng_state(),
    }
    if with_devices and torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set the generators to what :func:`random_state` returned.

    Args:
        state: The states; tensors may be on any device. Of CUDA devices those count that this
            machine has.
    """
    random.setstate(state['python'])
    keys, *rest = state['numpy']
    np.random.set_state(('MT19937', keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        for device, value in zip(range(torch.cuda.device_count()), state['cuda'], strict=False):
            torch.cuda.set_rng_state(value.cpu(), device)


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed the generators of Python, numpy and torch on the CPU for the body alone.

    Args:
        *numbers: What the seeds are computed from, integers from 0; any other tuple of numbers
            gives unrelated streams.
    """
    before = random_state(with_devices=False)
    words = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1:3])
    # Not `torch.manual_seed`, which seeds the GPUs too.
    torch.default_generator.manual_seed(int(words[3]))
    try:
        yield
    finally:
        set_random_state(before)
