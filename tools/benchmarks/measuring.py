"""Time functions in turn.

What shares a machine with a benchmark slows it for seconds at a time. Functions that take turns
suffer alike, so the ratio of their medians is reliable where the times themselves are not.
``torch.utils.benchmark.Timer`` and ``triton.testing.do_bench`` cannot do that: they repeat one
statement in a block.
"""

import argparse
import gc
import platform
import random
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import torch

from acon_mm import ops

Medians = Mapping[str, Mapping[str, float]]
"""The median of the seconds of each phase of each task."""


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


def interleave(tasks: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int) -> Medians:
    """Run all tasks once per round, after a round that does not count.

    The order of each round is drawn anew, from a fixed seed, and not just rotated: a rotation
    would leave every task behind the same neighbour, in the state of the caches that it leaves.

    Args:
        tasks: The tasks by name. A task runs once and returns the seconds of its phases.
        rounds: The number of rounds that count.

    Returns:
        For each task, in the order of ``tasks``, its phases with the median of their seconds.
    """
    samples = {name: defaultdict(list) for name in tasks}
    order, dice = list(tasks), random.Random(0)
    gc.collect()
    gc.freeze()  # the objects of the imports are not searched again in each round
    gc.disable()
    try:
        for index in range(-1, rounds):
            dice.shuffle(order)
            for name in order:
                for phase, taken in tasks[name]().items():
                    if index >= 0:
                        samples[name][phase].append(taken)
            gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    return {
        name: {phase: statistics.median(taken) for phase, taken in phases.items()}
        for name, phases in samples.items()
    }


def timing(medians: Medians, name: str, phase: str) -> str:
    """Write the milliseconds of a phase and their ratio to those of the first task."""
    seconds, reference = medians[name][phase], next(iter(medians.values()))[phase]
    return f'{1e3 * seconds:.3f} {seconds / reference:.2f}×'


def describe_machine(device: str) -> str:
    """Write what figures depend on: the machine, the versions and the operator's kernels."""
    cpuinfo = Path('/proc/cpuinfo')
    found = cpuinfo.is_file() and re.search(r'model name\s*: (.+)', cpuinfo.read_text())
    machine = (
        f'{found[1] if found else platform.machine()} with '
        f'{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads'
    )
    if device == 'cuda':
        machine = f'{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, beside {machine}'
    from acon_mm._stack import STACK  # needs packages that measuring does not

    names = [library.name for library in STACK if library.required]
    versions = ', '.join(f'{name} {metadata.version(name)}' for name in names)
    operator = '; '.join(ops.backend_report().splitlines())
    return f'- Machine: {machine}\n- Versions: {versions}\n- Operator: {operator}'


def build_parser(
    description: str, activations: Sequence[str], rounds: int
) -> argparse.ArgumentParser:
    """Return a parser with the flags that the benchmarks share, and their defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--activations', nargs='+', choices=activations, default=activations)
    parser.add_argument('--rounds', type=int, default=rounds, help=f'default: {rounds}')
    return parser
