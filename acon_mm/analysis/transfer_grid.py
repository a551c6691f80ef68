"""Run the steps of many chains that are missing, one after the other, over several sessions."""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from acon_mm.errors import UserError

from .transfer_files import write_json
from .transfer_plan import TASKS, Chain, Preset, Step
from .transfer_steps import (
    Execute,
    execute_command,
    run_step,
    shell_line,
    step_result,
)

SUMMARY = 'summary.json'


class StepTimes:
    """How long steps take: the mean of those that ran in one piece, by their names.

    Args:
        typical: What is supposed of a step that has not run yet.
    """

    def __init__(self, typical: dict[str, float]) -> None:
        self._typical = typical
        self._seen: dict[str, list[float]] = defaultdict(list)

    def add(self, step: Step, result: dict) -> None:
        """Take note of a step that ended; one that was resumed says nothing of a whole one."""
        if not result['resumed']:
            self._seen[step.name].append(result['seconds'])

    def estimate(self, steps: Iterable[Step]) -> float | None:
        """Return how many seconds some steps will take, None if nothing is known of one."""
        total = 0.0
        for step in steps:
            seen = self._seen.get(step.name)
            expected = sum(seen) / len(seen) if seen else self._typical.get(step.name)
            if expected is None:
                return None
            total += expected
        return total


def run_grid(
    preset: Preset,
    chains: Sequence[Chain],
    root: Path,
    tools: Path,
    *,
    limit_minutes: float | None = None,
    execute: Execute = execute_command,
    say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run what is missing of some chains. A step that has ended well is never run again.

    Chains run in the order given. Each leaves a ``summary.json`` in its folder.

    Args:
        preset: The preset of the chains.
        chains: The chains.
        root: The folder that holds theirs. Only one process at a time may work in it.
        tools: The folder ``tools/``.
        limit_minutes: No step is started later than this; None for no limit. With 0 nothing is
            written, and another process may work in ``root``.
        execute: Runs a command.
        say: Receives lines of progress.
        clock: Returns seconds.

    Returns:
        How many steps are left.

    Raises:
        UserError: If a step fails, a folder holds a step with other settings, or another process
            works in ``root``.
    """
    times = StepTimes(dict(preset.seconds))
    steps = [(chain, step) for chain in chains for step in chain.steps]
    total, start = len(steps), clock()
    # Looking at what is there needs no lock.
    with contextlib.nullcontext() if limit_minutes == 0 else _only_one(root):
        left = []
        for chain, step in steps:
            result = step_result(step)
            if result is None:
                left.append((chain, step))
            else:
                times.add(step, result)
        if left and preset.prepare and not _is_over(limit_minutes, start, clock):
            script, *arguments = preset.prepare
            execute([sys.executable, str(tools / script), *arguments], {}, root / 'data.log')
        while left and not _is_over(limit_minutes, start, clock):
            chain, step = left[0]
            head = f'[{total - len(left) + 1}/{total}] {label(chain, step)}'
            say(f'{head}: {_about(times, [step])}, log {step.folder / "log.txt"}')
            result = run_step(step, execute, tools, describe_commit(tools))
            times.add(step, result)
            left.pop(0)
            _write_summary(chain)
            say(f'{head}: {duration(result["seconds"])}{_metrics(result)}; {_left(times, left)}')
        if limit_minutes != 0:
            for chain in chains:  # one that was killed as it ended may lack it
                _write_summary(chain)
    if left:
        say(
            f'No step starts after {limit_minutes:g} min: {_left(times, left)}. The same command '
            'goes on.'
        )
    return len(left)


def dry_run(chains: Sequence[Chain], tools: Path, say: Callable[[str], None] = print) -> int:
    """Say what would be run, as lines for a shell; return how many steps that is."""
    left = 0
    for chain in chains:
        for step in chain.steps:
            if step_result(step) is not None:
                say(f'# {label(chain, step)}: finished')
                continue
            left += 1
            resumes = (step.folder / 'last_checkpoint').is_file() and not step.is_test
            say(f'# {label(chain, step)}{": goes on" if resumes else ""}')
            say(shell_line(step, tools))
    return left


def summarise(chain: Chain) -> dict | None:
    """Return what a chain measured, None before its last step has ended.

    Returns:
        ``metrics`` (in percent) and ``checkpoints`` (paths below the chain's folder) by task,
        ``seconds`` of all steps, the ``commits`` they ran at, and what the chain is.
    """
    results = {step: step_result(step) for step in chain.steps}
    if None in results.values():
        return None
    trained = {step.task: step for step in chain.steps if not step.is_test}
    tested = {step.task: step for step in chain.steps if step.is_test}
    first = chain.steps[0]
    return {
        'preset': chain.preset,
        'variant': chain.variant.name,
        'activation': chain.variant.activation,
        'seed': chain.seed,
        'processes': first.processes or 1,
        'options': {task: dict(trained[task].options) for task in TASKS},
        'data': dict(first.data),
        'metrics': {task: results[tested[task]]['metrics'] for task in TASKS},
        'checkpoints': {
            task: f'{trained[task].name}/{results[trained[task]]["checkpoint"]}' for task in TASKS
        },
        'seconds': round(sum(result['seconds'] for result in results.values()), 1),
        'resumed': any(result['resumed'] for result in results.values()),
        'commits': sorted({result['commit'] or 'unknown' for result in results.values()}),
    }


def _write_summary(chain: Chain) -> None:
    summary = summarise(chain)
    if summary is not None:
        write_json(summary, chain.folder / SUMMARY)


def label(chain: Chain, step: Step) -> str:
    """Name a step within a grid."""
    return f'{chain.variant.name}, seed {chain.seed}, {step.name}'


def describe_commit(folder: Path) -> str | None:
    """Return the commit of the checkout that a folder lies in, None outside one.

    ``+`` at the end says that tracked files differ from it.
    """
    git = ['git', '-C', str(folder)]
    try:
        commit = subprocess.run(
            [*git, 'rev-parse', '--short=12', 'HEAD'], capture_output=True, text=True, check=True
        )
        changed = subprocess.run([*git, 'diff', '--quiet', 'HEAD'], capture_output=True).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ('+' if changed else '')


def duration(seconds: float) -> str:
    """Write seconds as people do."""
    if seconds < 60:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02} min'


def _about(times: StepTimes, steps: Sequence[Step]) -> str:
    seconds = times.estimate(steps)
    return 'of unknown duration' if seconds is None else f'about {duration(seconds)}'


def _left(times: StepTimes, left: Sequence[tuple[Chain, Step]]) -> str:
    if not left:
        return 'nothing is left'
    return f'{len(left)} steps are left, {_about(times, [step for _, step in left])}'


def _metrics(result: dict) -> str:
    found = result.get('metrics', {}).items()
    return ''.join(f', {name} {value:.2f}' for name, value in found)


def _is_over(limit_minutes: float | None, start: float, clock: Callable[[], float]) -> bool:
    return limit_minutes is not None and clock() - start >= 60 * limit_minutes


@contextlib.contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Keep other processes out of a folder.

    The lock goes with the process and the command it runs, however they end: a training that
    outlives a killed grid holds it still.
    """
    root.mkdir(parents=True, exist_ok=True)
    with open(root / '.lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f'another process works in {str(root)!r}; wait for it or give another --work-dir'
            ) from None
        os.set_inheritable(file.fileno(), True)
        yield
