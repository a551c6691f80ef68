"""Time functions in turn.

What shares a machine with a benchmark slows it for seconds at a time. Functions that take turns
suffer alike, so the ratio of their medians is reliable where the times themselves are not.
``torch.utils.benchmark.Timer`` and ``triton.testing.do_bench`` cannot do that: they repeat one
statement in a block, and time its forward and backward pass as one.
"""

import ctypes
import gc
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

# However long they take, this many rounds are run, if as many are asked for.
MIN_ROUNDS = 15

# Slow functions would take most of the time, and are so far off that a third of the timings tells.
SLOW_EVERY = 3

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4

Task = Callable[[], Mapping[str, float]]
"""What is timed: runs once and returns the seconds of each of its phases."""


class Spread(NamedTuple):
    """The 20th percentile, the median and the 80th percentile of timings, and their number."""

    low: float
    median: float
    high: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> 'Spread':
        """Sum up samples, at least one."""
        return cls(*map(float, np.percentile(samples, (20, 50, 80))), len(samples))


Times = Mapping[str, Mapping[str, Spread]]
"""The spread of the seconds of each phase of each task."""


def stamp(device: str) -> float | torch.cuda.Event:
    """Mark the moment when the work queued so far on a device is done."""
    if device != 'cuda':
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds_between(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    """Return the seconds between two stamps, and wait for the second one."""
    if isinstance(start, float):
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def interleave(
    tasks: Mapping[str, Task],
    rounds: int,
    seconds: float = math.inf,
    slow: Collection[str] = (),
    now: Callable[[], float] = time.monotonic,
) -> Times:
    """Run all tasks once per round, after a round that does not count.

    The order of each round is drawn anew, from a fixed seed, and not just rotated: a rotation
    would leave every task behind the same neighbour, in the state of the caches that it leaves.

    Args:
        tasks: The tasks by name.
        rounds: The largest number of rounds.
        seconds: The time after which no further round starts, except for the first 15.
        slow: The names of tasks that run in every third round only.
        now: Returns the present second.

    Returns:
        For each task, in the order of ``tasks``, its phases with the spread of their seconds.
    """
    samples = {name: defaultdict(list) for name in tasks}
    order, dice, end = list(tasks), random.Random(0), math.inf
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()  # the objects of the imports are not searched again in each round
    gc.disable()
    try:
        for index in range(-1, rounds):
            if index == 0:
                end = now() + seconds
            elif index >= MIN_ROUNDS and now() >= end:
                break
            dice.shuffle(order)
            for name in order:
                if index > 0 and name in slow and index % SLOW_EVERY:
                    continue
                for phase, taken in tasks[name]().items():
                    if index >= 0:
                        samples[name][phase].append(taken)
            gc.collect()
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
    return {
        name: {phase: Spread.of(taken) for phase, taken in phases.items()}
        for name, phases in samples.items()
    }


def ratio(times: Times, name: str, reference: str, phase: str) -> float | None:
    """Return a task's median over that of a reference; None if one of them did not run."""
    if name not in times or reference not in times:
        return None
    return times[name][phase].median / times[reference][phase].median


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory instead of giving it back to the system.

    Memory given back is requested again page by page: a page fault costs more than filling the
    page, and which call pays for it depends on what ran before.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_MAX, 0)
