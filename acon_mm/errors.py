"""Errors that tools print as one sentence instead of a traceback."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

TRACEBACK_VARIABLE = 'ACON_MM_TRACEBACK'
"""The environment variable that shows the traceback of a :class:`UserError` as well."""

REQUEUE_STATUS = 75
"""The exit status of a run that a signal interrupted, EX_TEMPFAIL of ``sysexits.h``."""


class UserError(ValueError):
    """Say what an argument, a config key or a file has to be for a run to start.

    The message is one sentence that names the argument, the value it got and what would work.
    Every other exception is a bug and keeps its traceback.
    """


class CheckpointRefusedError(UserError):
    """A checkpoint asks for a global outside the allow-list; nothing of it was run."""


class PretrainedMismatchError(UserError):
    """The checkpoint of an ``init_cfg`` belongs to another network; nothing of it was loaded."""


class CheckpointMisfitError(UserError):
    """A checkpoint does not fill the model or the optimizer of a run; nothing was trained."""


class UnhealthyRunError(UserError):
    """A training computed something that is not a finite number, and was stopped."""


class Interrupted(SystemExit):
    """A signal ended a training, which has saved where it stood; the status asks for a requeue."""

    def __init__(self) -> None:
        super().__init__(REQUEUE_STATUS)


@contextmanager
def report_user_errors() -> Iterator[None]:
    """Print a :class:`UserError` as one line and exit with status 1, as every tool does.

    With ``ACON_MM_TRACEBACK=1`` in the environment, the traceback is printed before it, the error
    that was the cause included.

    Raises:
        SystemExit: After a :class:`UserError`.
    """
    try:
        yield
    except UserError as error:
        if os.environ.get(TRACEBACK_VARIABLE) == '1':
            traceback.print_exc()
        print(f'error: {error}', file=sys.stderr, flush=True)
        raise SystemExit(1) from error


@contextmanager
def requires_extra(extra: str, purpose: str) -> Iterator[None]:
    """Say which extra of acon_mm to install where an import in the body fails.

    Args:
        extra: The name of the extra, such as ``'digits'``.
        purpose: What needs it: the subject of the sentence.

    Raises:
        UserError: If the body raises an ImportError.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{purpose} needs the extra {extra!r} ({error}): run `pip install 'acon_mm[{extra}]'`"
        ) from error
