"""The common part of the command lines of ``tools/train.py`` and ``tools/test.py``."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from mmengine.config import DictAction

from acon_mm.engine.launch import LAUNCHERS, end_restarts, finish_launch, is_first_process
from acon_mm.errors import Interrupted, UserError, report_user_errors

# How long the other processes of a machine wait for the first one to print the error. torchrun and
# srun end all processes when one ends, so the wait is only this long if the first has no error.
PATIENCE_SECONDS = 60


class CfgOptions(DictAction):
    """mmengine's ``KEY=VALUE`` pairs, with a usage message for a pair without ``=``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        for pair in values:
            if '=' not in pair:
                raise argparse.ArgumentError(self, f'expected KEY=VALUE, got {pair!r}')
        super().__call__(parser, namespace, values, option_string)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that training and testing share; named as in mmdet."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='change values of the config, as in train_cfg.max_epochs=1 or key="[a,b]"',
    )
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='load a checkpoint that fits the model only in part',
    )
    parser.add_argument(
        '--launcher', choices=LAUNCHERS, default='none', help='what started the processes'
    )
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)


def run(function: Callable, arguments: argparse.Namespace) -> None:
    """Call a function of :mod:`acon_mm.apis` by the parsed command line.

    A :class:`.UserError` is printed as one line by the first process of a machine and ends the
    script with status 1; see :func:`.report_user_errors`. Anything else is a bug and keeps its
    traceback.

    Args:
        function: The function; it takes the arguments by their names.
        arguments: What the parser returned, changed in place: ``local_rank`` is taken out and
            goes to the environment variable ``LOCAL_RANK``.

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
