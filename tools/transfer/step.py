"""Run one step of a transfer grid, whose config is in the environment variable ``ACON_MM_GRID``.

A training that was interrupted goes on from its checkpoint, unless its settings, or what it starts
from, are others now. What came out is written to the result file of the step.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from grid import Grid, read_json, runs_of, start_from

from acon_mm.errors import UserError

TOOLS = Path(__file__).resolve().parents[1]
UNFINISHED = 'unfinished.json'
_TAIL = 12


def run_step(grid: Grid, kind: str, *step: str, threads: int = 1) -> None:
    """Run a step, or go on with it where it was interrupted, and write its result.

    Args:
        grid: The grid.
        kind: ``'prepare'``, ``'train'`` or ``'test'``.
        *step: For a training or a test, its row, seed and task.
        threads: The threads of all its processes together.

    Raises:
        UserError: If the step fails.
    """
    output, before, settings = grid.path(kind, *step), {}, {'command': grid.prepare}
    if kind != 'prepare':
        before = {path: read_json(path) for path in grid.inputs(kind, *step)}
        settings = grid.settings(kind, *step)
    settings = {**settings, 'runs': runs_of(before)}
    folder = output.with_suffix('')
    start = time.monotonic()
    with only_one(folder) as lock:
        resumed = begin(folder, settings)
        if kind == 'prepare':
            execute(shlex.split(grid.prepare), folder, lock)
            found = {}
        else:
            found = run_tool(grid, kind, *step, before=before, lock=lock, threads=threads)
        result = {
            'run': uuid.uuid4().hex[:12],
            'resumed': resumed,
            'seconds': round(time.monotonic() - start, 1),
            'commit': commit(),
            **found,
            'settings': settings,
        }
        text = json.dumps(result, indent=2, ensure_ascii=False)
        output.write_text(f'{text}\n', encoding='utf-8')
        (folder / UNFINISHED).unlink()


def run_tool(
    grid: Grid,
    kind: str,
    row: str,
    seed: str,
    task: str,
    *,
    before: Mapping[str, Mapping],
    lock: int,
    threads: int,
) -> dict:
    """Train or test by the script of ``tools/``, and return what it left."""
    checkpoints = [
        Path(path).with_suffix('') / result['checkpoint']
        for path, result in before.items()
        if 'checkpoint' in result
    ]
    folder = grid.path(kind, row, seed, task).with_suffix('')
    cfg = grid.load(row, seed, task)
    if kind == 'train' and checkpoints:
        start_from(cfg, str(checkpoints[0]))
    # The tool runs just this, whatever happens to the files it came from.
    config = folder / Path(cfg.filename).name
    cfg.dump(config)
    arguments = [config, *(checkpoints if kind == 'test' else ())]
    environment = {}
    if grid.gpus:
        program = ['bash', TOOLS / f'dist_{kind}.sh']
        arguments.append(grid.gpus)
        environment = {'OMP_NUM_THREADS': max(1, threads // grid.gpus), 'PORT': free_port()}
    else:
        program = [sys.executable, TOOLS / f'{kind}.py']
    arguments += ['--work-dir', folder, *(('--resume', 'auto') if kind == 'train' else ())]
    execute([*program, *arguments], folder, lock, environment)
    if kind == 'train':
        # By its name, for the folder may be moved.
        return {'checkpoint': Path((folder / 'last_checkpoint').read_text().strip()).name}
    return {'metrics': tested_metrics(folder, grid.tasks[task]['metrics'])}


def begin(folder: Path, settings: Mapping) -> bool:
    """Make the work dir of a step.

    It is left as it is if a step with the same settings was interrupted there. Otherwise the step
    begins in an empty folder; an older one with checkpoints is moved aside.

    Returns:
        Whether there is a checkpoint to go on from.
    """
    mark = folder / UNFINISHED
    if read_json(mark) != settings:
        if list(folder.glob('*.pth')):
            aside = folder.with_name(f'{folder.name}.{time.strftime("%Y%m%d_%H%M%S")}')
            folder.rename(aside)
            print(f'{folder} held a run that is finished or had other settings; it is now {aside}')
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.write_text(json.dumps(settings), encoding='utf-8')
    return (folder / 'last_checkpoint').is_file()


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[int]:
    """Keep others out of a work dir, as long as this process or a command it started runs.

    So a training that outlives a killed grid is not joined by a second one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f'.{folder.name}.lock'), 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'a process that was started earlier still works in {str(folder)!r}'
            ) from None
        yield file.fileno()


def execute(
    command: Sequence[object],
    folder: Path,
    lock: int,
    environment: Mapping[str, object] | None = None,
) -> None:
    """Run a command, with all it prints at the end of ``log.txt``; it ends with this process.

    Raises:
        UserError: If it fails, with the end of the log.
    """
    log = folder / 'log.txt'
    environment = {
        # A waiting thread sleeps: spinning, it would slow training down wherever another process
        # needs one of the cores too.
        'OMP_WAIT_POLICY': 'passive',
        **os.environ,
        # `python` is the one that runs this.
        'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')]),
        **{key: str(value) for key, value in (environment or {}).items()},
    }
    with open(log, 'a', encoding='utf-8') as file:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C reaches it once, from here
        )
        try:
            status = process.wait()
        except BaseException:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            process.terminate()
            process.wait()
            raise
    if status:
        lines = log.read_text(encoding='utf-8', errors='replace').splitlines()[-_TAIL:]
        raise UserError('\n'.join([f'status {status}; the end of the log {log} is', *lines]))


def tested_metrics(folder: Path, wanted: Sequence[str]) -> dict[str, float]:
    """Return what a test measured, in percent.

    Raises:
        UserError: If it did not measure what is wanted.
    """
    from acon_mm.analysis.runs import latest_test_record, metrics_of

    logged = latest_test_record(folder)
    metrics = metrics_of(logged)
    # mmdet computes none for a detector that finds nothing in any image: the log then holds how
    # long the test took, and that alone.
    if not metrics and 'box AP' in wanted and logged and logged.keys() <= {'data_time', 'time'}:
        metrics = dict.fromkeys(wanted, 0.0)
    if not set(wanted) <= metrics.keys():
        raise UserError(f'the test in {str(folder)!r} left no {", ".join(wanted)}; see its log')
    return metrics


def commit() -> str | None:
    """Return the commit of this checkout, None outside one; ``-dirty`` if files differ from it."""
    command = ['git', '-C', str(TOOLS), 'describe', '--always', '--dirty', '--abbrev=12']
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(
            [*command, '--exclude=*'], capture_output=True, text=True, check=True
        ).stdout.strip()
    return None


def free_port() -> int:
    """Return a port for the processes of a step, which may share the machine with another's."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def main() -> None:
    """Run the step that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('kind', choices=('prepare', 'train', 'test'))
    parser.add_argument('step', nargs='*', help='row, seed and task of a training or a test')
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        grid = Grid(json.loads(os.environ['ACON_MM_GRID']))
        run_step(grid, args.kind, *args.step, threads=args.threads)
    except UserError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('interrupted; the same command goes on')


if __name__ == '__main__':
    main()
