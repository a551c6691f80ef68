"""The common part of the command lines of ``tools/train.py`` and ``tools/test.py``."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import DictAction

from acon_mm.engine.launch import end_restarts, finish_launch, is_first_process
from acon_mm.errors import Interrupted, UserError, report_user_errors

# How long the other processes of a machine wait for the first one to print the error. torchrun and
# srun end all processes when one ends, so the wait is only this long if the first has no error.
PATIENCE_SECONDS = 60


def read_options(pairs: Sequence[str] | None) -> dict[str, Any] | None:
    """Read mmengine's ``KEY=VALUE`` pairs from a command line.

    Args:
        pairs: Such as ``['train_cfg.max_epochs=1', 'key=[a,b]']``; None if there are none.

    Returns:
        The values by dotted key.

    Raises:
        UserError: If a pair has no ``=``.

    Examples:
        >>> read_options(['train_cfg.max_epochs=1', 'key=[a,b]'])
        {'train_cfg.max_epochs': 1, 'key': ['a', 'b']}
    """
    if not pairs:
        return None
    for pair in pairs:
        if '=' not in pair:
            raise UserError(f'--cfg-options has {pair!r}; give KEY=VALUE, as in a.b=1')
    parser = argparse.ArgumentParser()
    parser.add_argument('pairs', nargs='+', action=DictAction)
    return parser.parse_args(['--', *pairs]).pairs


def run(function: Callable, arguments: argparse.Namespace) -> None:
    """Call a function of :mod:`acon_mm.apis` by the parsed command line.

    A :class:`.UserError` is printed as one line by the first process of a machine and ends the
    script with status 1; see :func:`.report_user_errors`. Anything else is a bug and keeps its
    traceback.

    Args:
        function: The function; it takes the arguments by their names.
        arguments: What the parser returned, changed in place: ``local_rank`` is taken out and
            goes to the environment variable ``LOCAL_RANK``; ``cfg_options`` are read.

    Raises:
        SystemExit: With status 1 after a :class:`.UserError`; torchrun then does not start the
            processes again. With status 130 after Ctrl-C, and with 75 after a signal that ended
            a training.
    """
    kwargs = vars(arguments)
    local_rank = kwargs.pop('local_rank')
    if local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(local_rank))
    is_first = is_first_process()
    try:
        with report_user_errors():
            try:
                if 'cfg_options' in kwargs:
                    kwargs['cfg_options'] = read_options(kwargs['cfg_options'])
                function(**kwargs)
            except UserError:
                if not is_first:
                    time.sleep(PATIENCE_SECONDS)
                raise
    except KeyboardInterrupt:
        if is_first:
            print('stopped by Ctrl-C; the same command with --resume goes on', file=sys.stderr)
        raise SystemExit(130) from None
    except SystemExit as end:
        if isinstance(end, Interrupted):
            finish_launch()
        if is_first:
            end_restarts()
        raise
    finish_launch()
