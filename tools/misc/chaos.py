"""Kill tiny trainings at random instants, let them resume, and compare their weights bit by bit.

A process with everything imported forks each training, so a training takes about a second. Half of
the kills (SIGKILL) come after a random time, the other half in place of a random system call that
flushes, renames or removes a file, most of them inside a save. Exit status 1 if any training was
not resumed by itself, or ended with other weights than the one that was never killed.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mmengine.runner.runner
import torch
from mmengine.config import Config
from torch.distributed.launcher import LaunchConfig, elastic_launch

from acon_mm import apis
from acon_mm.analysis.markdown import markdown_table
from acon_mm.checkpoints import load_from_local
from acon_mm.checkpoints.finding import find_newest_whole

sys.path.insert(0, str(Path(__file__).parents[2] / 'tests/test_tools/toy_project'))
from acon_random_toy import random_config

ITERATIONS = 40
SYSTEM_CALLS = ('fsync', 'replace', 'unlink')
CALLS_OF_SOME_SAVES = 40  # a save makes about 10


class Kind(NamedTuple):
    """One kind of training; each has augmentation, dropout and ``max_keep_ckpts=1``.

    Attributes:
        by_epoch: Which loop it has.
        every_iteration: Whether it saves after each iteration, not after four, and the best too.
        workers: How many workers load its data.
        processes: How many processes train; more than one are started by torchrun's agent.
    """

    by_epoch: bool
    every_iteration: bool = False
    workers: int = 0
    processes: int = 1

    def config(self, work_dir: Path) -> Config:
        """Return the config of a training of 40 iterations."""
        changes: dict[str, Any] = {'train_dataloader.dataset.length': 12 * self.processes}
        if self.every_iteration:
            changes['default_hooks.checkpoint'] = {
                'by_epoch': False,
                'interval': 1,
                'save_best': 'acc',
            }
        length = {'max_epochs': ITERATIONS // 4} if self.by_epoch else {'max_iters': ITERATIONS}
        return random_config(
            work_dir,
            by_epoch=self.by_epoch,
            workers=self.workers,
            **changes,
            **{f'train_cfg.{key}': value for key, value in length.items()},
        )


KINDS = {
    'epochs': Kind(by_epoch=True),
    'epochs, saved each iteration': Kind(by_epoch=True, every_iteration=True),
    'epochs, 2 workers': Kind(by_epoch=True, workers=2),
    'iterations': Kind(by_epoch=False),
    'iterations, 2 workers': Kind(by_epoch=False, every_iteration=True, workers=2),
    'epochs, 2 processes': Kind(by_epoch=True, processes=2),
    'iterations, 2 processes, 2 workers': Kind(by_epoch=False, workers=2, processes=2),
}


@dataclass
class Tally:
    """What came out for one kind.

    Attributes:
        kills: How many trainings were killed.
        at_calls: How many of them at a system call.
        resumed: After how many of them the training went on by itself, from a checkpoint that is
            no older than the one before.
        runs: How many trainings were resumed until their end.
        equal: How many of them ended with the weights and the optimizer of the whole run.
    """

    kills: int = 0
    at_calls: int = 0
    resumed: int = 0
    runs: int = 0
    equal: int = 0

    @property
    def is_good(self) -> bool:
        """Whether nothing went wrong."""
        return self.resumed == self.kills and self.equal == self.runs > 0


class Death(NamedTuple):
    """How a process dies: after some seconds, or else at the call of a number."""

    seconds: float | None
    call: int = 0

    @classmethod
    def draw(cls, instants: random.Random, duration: float) -> 'Death':
        """Draw one; by time at any instant of a run of that many seconds."""
        if instants.random() < 0.5:
            return cls(instants.uniform(0, duration))
        return cls(None, instants.randint(1, CALLS_OF_SOME_SAVES))

    @contextmanager
    def awaited(self, note: Path) -> Iterator[None]:
        """Have this process die so in the body; the file gets a letter, ``c`` for a call."""
        if self.seconds is None:
            _die_at_call(self.call, partial(_append, note, 'c'))
            yield
            return
        victim = os.getpid()
        killer = os.fork()
        if not killer:
            # A process of its own, since Python's handlers of signals wait for system calls.
            time.sleep(self.seconds)
            if os.getppid() == victim:
                os.kill(victim, signal.SIGKILL)
                _append(note, 't')
            os._exit(0)
        yield
        # A process that dies while it waits for torch's agent to end would block the agent.
        os.kill(killer, signal.SIGKILL)
        os.waitpid(killer, 0)


def _append(path: Path, text: str) -> None:
    with path.open('a') as file:
        file.write(text)


def _die_at_call(number: int, before: Callable[[], None]) -> None:
    left, victim = number, os.getpid()

    def counted(function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= os.getpid() == victim  # not those of its workers
            if left == 0:
                before()
                os.kill(victim, signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in SYSTEM_CALLS:
        setattr(os, name, counted(getattr(os, name)))


def train(cfg: Config, launcher: str = 'none') -> None:
    """Train as ``tools/train.py --resume`` does, in this process."""
    torch.set_num_threads(1)
    mmengine.runner.runner.collect_env = dict  # asks compilers for their versions
    apis.train(cfg, resume=True, launcher=launcher)


def in_child(function: Callable[[], Any], log: Path) -> int:
    """Run a function in a fork of this process; return its wait status, 0 if it came to an end."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    with log.open('a') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        function()
        status = 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def start(kind: Kind, cfg: Config, deaths: list[Death], note: Path, log: Path) -> bool:
    """Train, die and resume until the end; return whether it was reached by itself.

    Args:
        kind: The kind of training.
        cfg: Its config.
        deaths: How it dies, one after the other; what comes after its end is left out.
        note: The file that gets a letter for each death.
        log: The file that gets what the processes print.
    """
    if kind.processes > 1:
        return not in_child(partial(_run_agent, kind, cfg, deaths, note), log)
    newest = 0
    for death in [*deaths, None]:
        status = in_child(partial(_live, cfg, death, note), log)
        if not status:
            return True
        found = find_newest_whole(cfg.work_dir)
        iteration = 0 if found is None else load_from_local(found)['meta']['iter']
        if not os.WIFSIGNALED(status) or iteration < newest:
            return False
        newest = iteration
    return False


def _live(cfg: Config, death: Death | None, note: Path, launcher: str = 'none') -> None:
    with death.awaited(note) if death is not None else nullcontext():
        train(cfg, launcher)


def _run_agent(kind: Kind, cfg: Config, deaths: list[Death], note: Path) -> None:
    """Train as torchrun would: its agent starts all processes again when one dies."""
    options = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=kind.processes,
        rdzv_backend='c10d',
        rdzv_endpoint='127.0.0.1:0',
        run_id='chaos',
        max_restarts=len(deaths),
        monitor_interval=0.05,
        start_method='fork',
    )
    elastic_launch(options, _live_under_agent)(cfg, deaths, note)


def _live_under_agent(cfg: Config, deaths: list[Death], note: Path) -> None:
    attempt = int(os.environ['TORCHELASTIC_RESTART_COUNT'])
    is_victim = os.environ['RANK'] == str(attempt % 2)
    death = deaths[attempt] if is_victim and attempt < len(deaths) else None
    _live(cfg, death, note, launcher='pytorch')


def is_same(work_dir: str, expected: str) -> bool:
    """Return whether two trainings ended alike, bit by bit."""
    paths = [find_newest_whole(folder) for folder in (work_dir, expected)]
    found, wanted = (load_from_local(path) for path in paths if path is not None)
    try:
        for part in ('state_dict', 'optimizer'):
            torch.testing.assert_close(found[part], wanted[part], rtol=0, atol=0)
    except AssertionError as error:
        print(error)
        return False
    is_through = found['meta']['iter'] == wanted['meta']['iter'] == ITERATIONS
    return is_through and found['param_schedulers'] == wanted['param_schedulers']


def kill_often(kind: Kind, kills: int, folder: Path, instants: random.Random) -> Tally:
    """Kill trainings of a kind that many times, at least; see :class:`Tally`.

    Args:
        kind: The kind of training.
        kills: How often.
        folder: An empty folder, which gets the work dirs.
        instants: Draws the instants.

    Raises:
        RuntimeError: If the training fails that nobody kills.
    """
    log = folder / 'log'
    whole = kind.config(folder / 'whole')
    began = time.monotonic()
    if not start(kind, whole, [], folder / 'note', log):
        raise RuntimeError(f'the run that was not killed failed:\n{log.read_text()[-3000:]}')
    duration = time.monotonic() - began
    tally = Tally()
    while tally.kills < kills:
        cfg = kind.config(folder / f'run_{tally.runs}')
        note = folder / f'note_{tally.runs}'
        deaths = [Death.draw(instants, duration) for _ in range(kills - tally.kills)]
        is_through = start(kind, cfg, deaths, note, log)
        died = note.read_text() if note.exists() else ''
        tally.runs += 1
        tally.kills += len(died)
        tally.at_calls += died.count('c')
        if not is_through:
            tally.resumed += max(len(died) - 1, 0)
            print(log.read_text()[-3000:])
            return tally
        tally.resumed += len(died)
        tally.equal += is_same(cfg.work_dir, whole.work_dir)
    return tally


def main() -> int:
    """Kill, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=20, help='how many, over all kinds')
    parser.add_argument('--seed', type=int, default=0, help='of the instants')
    arguments = parser.parse_args()
    memory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None  # waits for no disk
    share, rest = divmod(arguments.kills, len(KINDS))
    tallies = {}
    for number, (name, kind) in enumerate(KINDS.items()):
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            instants = random.Random(f'{arguments.seed} {name}')
            kills = share + (number < rest)
            tallies[name] = kill_often(kind, kills, Path(folder), instants)
        print(f'{name}: {tallies[name]}', flush=True)
    counts = {name: astuple(tally) for name, tally in tallies.items()}
    counts['all'] = tuple(map(sum, zip(*counts.values(), strict=True)))
    rows = [[name, *map(str, numbers)] for name, numbers in counts.items()]
    heads = ['Kind', 'Kills', 'at a system call', 'resumed by itself', 'Runs', 'equal weights']
    print(markdown_table(heads, rows))
    return 0 if all(tally.is_good for tally in tallies.values()) else 1


if __name__ == '__main__':
    raise SystemExit(main())
