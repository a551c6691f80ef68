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

from grid import Grid, read_json, start_from

from acon_mm.errors import UserError

TOOLS = Path(__file__).resolve().parents[1]
UNFINISHED = 'unfinished.json'


def run_step(grid: Grid, kind: str, *step: str, threads: int = 1) -> None:
    """Run a step, or go on with it, and write its result."""
    output, settings = grid.path(kind, *step), {'command': grid.prepare}
    if kind != 'prepare':
        settings = {**grid.settings(kind, *step), 'runs': grid.runs(kind, *step)}
    folder = output.with_suffix('')
    start = time.monotonic()
    with only_one(folder) as lock:
        resumed = begin(folder, settings)
        if kind == 'prepare':
            execute(shlex.split(grid.prepare), folder, lock)
        else:
            command, environment = tool_command(grid, folder, kind, *step, threads=threads)
            execute(command, folder, lock, environment)
        result = {
            'run': uuid.uuid4().hex[:12],
            'resumed': resumed,
            'seconds': round(time.monotonic() - start, 1),
            'commit': commit(),
            'settings': settings,
        }
        if kind == 'train':
            # By its name, for the folder may be moved.
            result['checkpoint'] = Path((folder / 'last_checkpoint').read_text()).name
        if kind == 'test':
            result['metrics'] = tested_metrics(folder, grid.tasks[step[-1]]['metrics'])
        output.write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding='utf-8')
        (folder / UNFINISHED).unlink()


def tool_command(
    grid: Grid, folder: Path, kind: str, *step: str, threads: int
) -> tuple[list, dict]:
    """Write the config of a step, and return the command that trains or tests with it."""
    cfg = grid.load(*step)
    before = grid.before(kind, *step)
    checkpoint = ''
    if before:
        path = grid.path(*before)
        checkpoint = str(path.with_suffix('') / read_json(path)['checkpoint'])
    if before and kind == 'train':
        start_from(cfg, checkpoint)
    # The tool runs just this, whatever happens to the files it came from.
    config = folder / Path(cfg.filename).name
    cfg.dump(config)
    arguments = [config, *([checkpoint] if kind == 'test' else [])]
    options = ['--work-dir', folder, *(['--resume', 'auto'] if kind == 'train' else [])]
    if not grid.gpus:
        return [sys.executable, TOOLS / f'{kind}.py', *arguments, *options], {}
    with socket.socket() as probe:  # two steps may share a machine
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    command = ['bash', TOOLS / f'dist_{kind}.sh', *arguments, grid.gpus, *options]
    return command, {'PORT': port, 'OMP_NUM_THREADS': max(1, threads // grid.gpus)}


def begin(folder: Path, settings: Mapping) -> bool:
    """Make the work dir of a step, and return whether there is a checkpoint to go on from.

    Unless the same step was interrupted there, it starts empty. Checkpoints are moved aside.
    """
    mark = folder / UNFINISHED
    if read_json(mark) != settings:
        if list(folder.glob('*.pth')):
            aside = folder.with_name(f'{folder.name}.{time.strftime("%Y%m%d_%H%M%S")}')
            print(f'{folder} held a run that is finished or had other settings; it is now {aside}')
            folder.rename(aside)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.write_text(json.dumps(settings), encoding='utf-8')
    return (folder / 'last_checkpoint').is_file()


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[int]:
    """Keep others out of a work dir while this process, or a training that outlives it, runs."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f'.{folder.name}.lock'), 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f'an earlier process still works in {str(folder)!r}') from None
        yield file.fileno()


def execute(
    command: Sequence, folder: Path, lock: int, environment: Mapping | None = None
) -> None:
    """Run a command, all it prints going to the end of ``log.txt``; it ends with this process."""
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
            start_new_session=True,  # a signal reaches it once, from here
        )
        try:
            status = process.wait()
        except BaseException:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            process.terminate()
            process.wait()
            raise
    if status:
        end = log.read_text(encoding='utf-8', errors='replace').splitlines()[-12:]
        raise UserError('\n'.join([f'status {status}; the end of the log {log} is', *end]))


def tested_metrics(folder: Path, wanted: Sequence[str]) -> dict[str, float]:
    """Return what a test measured, in percent."""
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
    """Return the commit of this checkout, with ``-dirty`` if files differ; None outside one."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        output = subprocess.check_output(command, cwd=TOOLS, stderr=subprocess.DEVNULL, text=True)
        return output.strip()
    return None


def main() -> None:
    """Run the step that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('kind', choices=('prepare', 'train', 'test'))
    parser.add_argument('step', nargs='*', help='row, seed and task of a training or a test')
    parser.add_argument('--threads', type=int, default=1, help='of all its processes together')
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
