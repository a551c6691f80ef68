"""Run one step of the transfer chain, once, and go on with one that was interrupted.

A step that has ended well leaves ``result.json`` in its work dir, which says what came out.
"""

import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from acon_mm.errors import UserError

from .runs import latest_test_record, metrics_of
from .transfer_files import read_json, write_json
from .transfer_identity import PRETRAINED, check_identity, check_unchanged, write_identity
from .transfer_plan import DETECTION, METRICS, Step

# Runs a command with these environment variables, all it prints going to the end of a log; raises
# a UserError if it fails.
Execute = Callable[[Sequence[str], Mapping[str, str], Path], None]


def step_result(step: Step) -> dict | None:
    """Return what a step left when it ended well, None if it has not.

    Returns:
        ``seconds`` of the run (after a resume: of its last part), ``resumed``, ``commit``, and
        ``checkpoint`` and ``run``, the name of this very training (training), or ``metrics``
        (test).

    Raises:
        UserError: If the folder holds a step with another identity.
    """
    check_identity(step)
    return read_json(step.folder / 'result.json')


def run_step(step: Step, execute: Execute, tools: Path, commit: str | None = None) -> dict:
    """Run a step, or go on with it where it was interrupted.

    Args:
        step: The step; the one before has ended well.
        execute: Runs the command.
        tools: The folder ``tools/``.
        commit: The state of the code, to be noted.

    Returns:
        What :func:`step_result` returns from then on.

    Raises:
        UserError: If the step fails or leaves no result, its folder holds another one, or its
            config has changed since the grid was started.
    """
    check_identity(step)
    check_unchanged(step)
    resumed = (step.folder / 'last_checkpoint').is_file()
    write_identity(step)
    environment = {PRETRAINED: str(last_checkpoint(step.after))} if step.after else {}
    start = time.monotonic()
    execute(step_command(step, tools), environment, step.folder / 'log.txt')
    check_unchanged(step)  # it was read again after the first check
    result = {
        'seconds': round(time.monotonic() - start, 1),
        'resumed': resumed,
        'commit': commit,
    }
    if step.is_test:
        result['metrics'] = _tested_metrics(step)
    else:
        checkpoint = last_checkpoint(step)
        for kind in ('epoch', 'iter'):
            for older in set(step.folder.glob(f'{kind}_*.pth')) - {checkpoint}:
                older.unlink()  # it was there for a resume
        result['checkpoint'] = checkpoint.name
        result['run'] = uuid.uuid4().hex[:16]
    write_json(result, step.folder / 'result.json')
    return result


def step_command(step: Step, tools: Path) -> list[str]:
    """Return the command line of a step, which can be started whether it was interrupted or not.

    A checkpoint that is not there yet is named as a shell would find it.
    """
    kind = 'test' if step.is_test else 'train'
    arguments = [step.config]
    if step.is_test:
        arguments.append(_checkpoint_argument(step.after))
    if step.processes:
        arguments.append(str(step.processes))
        program = ['bash', str(tools / f'dist_{kind}.sh')]
    else:
        program = [sys.executable, str(tools / f'{kind}.py')]
    # Named, for `--resume` alone would take what follows it.
    resume = [] if step.is_test else [*step.flags, '--resume', 'auto']
    options = [f'{key}={_written(value)}' for key, value in step.options.items()]
    return [
        *program,
        *arguments,
        *resume,
        *('--work-dir', str(step.folder)),
        *('--cfg-options', *options),
    ]


def shell_line(step: Step, tools: Path) -> str:
    """Write the command of a step, with its environment, as one for a shell."""
    words = step_command(step, tools)
    line = ' '.join(map(_quoted, words))
    if step.after and not step.is_test:
        line = f'{PRETRAINED}={_quoted(_checkpoint_argument(step.after))} {line}'
    return line


def last_checkpoint(step: Step) -> Path:
    """Return the checkpoint that a training left.

    Raises:
        UserError: If it is gone.
    """
    named = step.folder / 'last_checkpoint'
    # By its name: the folder may have been moved since.
    path = step.folder / Path(named.read_text().strip()).name if named.is_file() else named
    if not path.is_file():
        raise UserError(
            f'{str(step.folder)!r} holds a training without its checkpoint {path.name!r}; remove '
            'the folder to train again'
        )
    return path


def execute_command(
    command: Sequence[str], environment: Mapping[str, str], log: Path, tail: int = 12
) -> None:
    """Run a command, all it prints going to the end of a log.

    Args:
        command: Its words.
        environment: Environment variables to set.
        log: The log.
        tail: How many lines of the log the error shows.

    Raises:
        UserError: If the command ends with another status than 0.
    """
    # A waiting thread sleeps: spinning, it would slow training down wherever another process
    # needs one of the cores too.
    defaults = {'OMP_WAIT_POLICY': 'passive', 'PYTHON': sys.executable}
    with open(log, 'a', encoding='utf-8') as file:
        process = subprocess.Popen(
            list(command),
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**defaults, **os.environ, **environment},
            close_fds=False,  # the lock of the grid lasts as long as what it started
        )
        try:
            status = process.wait()
        except BaseException:  # an interrupt too: torchrun ends its processes if it is asked to
            process.terminate()
            process.wait()
            raise
    if status:
        lines = log.read_text(encoding='utf-8', errors='replace').splitlines()[-tail:]
        end = '\n'.join(f'  {line}' for line in lines)
        raise UserError(
            f'a step ended with status {status}; the end of its log {str(log)!r} is\n{end}'
        )


def _tested_metrics(step: Step) -> dict[str, float]:
    logged = latest_test_record(step.folder)
    metrics = metrics_of(logged)
    if metrics:
        return metrics
    # mmdet computes none for a detector that finds nothing in any image: the log then holds how
    # long the test took, and that alone.
    if step.task == DETECTION and logged and logged.keys() <= {'data_time', 'time'}:
        return dict.fromkeys(METRICS[DETECTION], 0.0)
    raise UserError(f'the step in {str(step.folder)!r} left no metrics; its log says why')


def _checkpoint_argument(step: Step) -> str:
    if (step.folder / 'result.json').is_file():
        return str(last_checkpoint(step))
    return f'"$(cat {shlex.quote(str(step.folder / "last_checkpoint"))})"'


def _quoted(word: str) -> str:
    """Quote a word for a shell, unless it is one that the shell is to replace."""
    return word if word.startswith('"$(') else shlex.quote(word)


def _written(value: object) -> str:
    """Write a value as ``--cfg-options`` takes it, which has no spaces inside lists."""
    return str(value).replace(' ', '') if isinstance(value, (list, tuple)) else str(value)
