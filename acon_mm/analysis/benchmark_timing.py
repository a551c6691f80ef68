"""Time several functions against each other, in turn within one run.

What shares a machine with a benchmark slows it for seconds at a time. Functions that take turns
suffer alike, so the ratio of their medians stands where the times themselves do not.
"""

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

PERCENTILES = (20, 50, 80)

Task = Callable[[], Mapping[str, float]]
"""What is timed: runs once and returns the seconds of each of its phases."""


class Clock(Protocol):
    """Marks moments in the work of a device, and says how far apart they are."""

    def stamp(self) -> Any:
        """Mark the moment when the work queued so far is done."""

    def seconds(self, start: Any, end: Any) -> float:
        """Return the seconds between two stamps, and wait for the second."""


class CpuClock:
    """The clock of work that is done when its call returns."""

    def stamp(self) -> float:
        """Return the present moment."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """Return the seconds between two moments."""
        return end - start


class CudaClock:
    """The clock of work on the current stream: events, and a wait when they are read."""

    def stamp(self) -> torch.cuda.Event:
        """Put an event behind the work queued so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Wait for the second event and return the seconds between both."""
        end.synchronize()
        return start.elapsed_time(end) / 1e3


def clock_of(device: str) -> Clock:
    """Return the clock of a device, ``'cpu'`` or ``'cuda'``."""
    return CudaClock() if torch.device(device).type == 'cuda' else CpuClock()


@dataclass(frozen=True)
class Spread:
    """What repeated timings of one thing came to, in seconds.

    Attributes:
        low: The 20th percentile.
        median: The median.
        high: The 80th percentile.
        count: How many timings there were.
    """

    low: float
    median: float
    high: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> 'Spread':
        """Sum up samples, at least one."""
        return cls(*map(float, np.percentile(samples, PERCENTILES)), len(samples))


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        rounds: The largest number of rounds.
        min_rounds: The number of rounds that are run however long they take.
        seconds: The time after which no further round starts.
        warm_up: The number of rounds before, which do not count.
    """

    rounds: int
    min_rounds: int = 15
    seconds: float = math.inf
    warm_up: int = 1

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f'rounds must be a positive integer, but it is {self.rounds!r}')


def interleave(
    tasks: Mapping[str, Task],
    plan: Plan,
    every: Mapping[str, int] | None = None,
    now: Callable[[], float] = time.monotonic,
) -> dict[str, dict[str, Spread]]:
    """Run all tasks once a round, in another order each time.

    The order is drawn anew, from a fixed seed, and not just rotated: a rotation would leave every
    task behind the same neighbour, whose leavings in the caches it finds.

    Args:
        tasks: The tasks by name.
        plan: How many rounds.
        every: Names of slow tasks that run in every second (2), third (3), … round only.
        now: What tells the seconds that have passed.

    Returns:
        For each task, in the order of ``tasks``, its phases with the spread of their seconds.
    """
    every = every or {}
    samples: dict[str, dict[str, list[float]]] = {name: {} for name in tasks}
    order, dice = list(tasks), random.Random(0)
    end = math.inf
    with _collecting_between_rounds() as collect:
        for index in range(-plan.warm_up, plan.rounds):
            if index == 0:
                end = now() + plan.seconds
            elif index >= plan.min_rounds and now() >= end:
                break
            dice.shuffle(order)
            for name in order:
                if index % every.get(name, 1) == 0:
                    found = tasks[name]()
                    for phase, seconds in found.items() if index >= 0 else ():
                        samples[name].setdefault(phase, []).append(seconds)
            collect()
    return {
        name: {phase: Spread.of(values) for phase, values in phases.items()}
        for name, phases in samples.items()
    }


@contextmanager
def _collecting_between_rounds() -> Iterator[Callable[[], int]]:
    """Keep Python's garbage collector out of the timings; yield what collects in between."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()  # what the imports left is not searched again: a collection takes microseconds
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
