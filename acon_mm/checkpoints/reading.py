"""Reading checkpoints without running what is inside them.

A checkpoint is a pickle, and a pickle can call any function while it is read. torch's
``weights_only=True`` allows a fixed list of globals. That list lacks three things which every
checkpoint of mmengine holds: its :class:`HistoryBuffer`, numpy arrays and numpy scalars.
:func:`safe_globals` adds exactly these, as stand-ins that check what they get. Everything else is
refused with a sentence. Config texts, which mmengine would run as Python, are left in only if they
hold nothing but values.
"""

import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from acon_mm.errors import CheckpointRefusedError, UserError

from . import pickled_numpy
from .config_text import leave_out_programs
from .record import fault_of

# What torch and zipfile raise on bytes that are no checkpoint, seen on truncated and random files.
_UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def safe_globals() -> dict[str, Any]:
    """Return what a checkpoint may name besides torch's own list, by the name a pickle uses."""
    allowed = {
        'mmengine.logging.history_buffer.HistoryBuffer': pickled_numpy.PickledHistory,
        'builtins.getattr': pickled_numpy.history_method,
        'numpy.ndarray': pickled_numpy.PickledArray,
        'numpy.dtype': pickled_numpy.PickledDtype,
    }
    for core in ('numpy.core', 'numpy._core'):  # numpy 1 and numpy 2
        allowed[f'{core}.multiarray._reconstruct'] = pickled_numpy.reconstruct
        allowed[f'{core}.multiarray.scalar'] = pickled_numpy.scalar
    return allowed


def load_from_local(filename: str | os.PathLike, map_location: Any = None) -> Any:
    """Read a checkpoint on this machine, allowing only tensors and logged numbers.

    Args:
        filename: Path of the checkpoint; ``~`` is expanded.
        map_location: Same as in :func:`torch.load`.

    Returns:
        What was saved, usually a dict with ``meta`` and ``state_dict``, without config texts
        that hold more than values and without ``meta['config']``.

    Raises:
        UserError: If the file is missing, damaged or no checkpoint, is not the one of the record
            beside it (:mod:`.record`), or its
            tensors cannot be put where ``map_location`` says.
        CheckpointRefusedError: If it asks for a global outside the allow-list.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise UserError(f'checkpoint {str(path)!r} does not exist; give the path of a .pth file')
    if fault := fault_of(path):
        raise UserError(
            f'checkpoint {str(path)!r} is refused: {fault}; take an earlier one or copy it again'
        )
    return read_safely(
        lambda: torch.load(path, map_location=map_location, weights_only=True), path
    )


def read_safely(load: Callable[[], Any], path: str | os.PathLike) -> Any:
    """Read a checkpoint by a function that restricts what its pickle may call.

    Args:
        load: Calls :func:`torch.load` with ``weights_only=True``.
        path: Where the checkpoint is from, for the messages.

    Returns:
        What was saved, without config texts that hold more than values.

    Raises:
        UserError: If the content is damaged or no checkpoint, or its tensors cannot be put where
            ``map_location`` says.
        CheckpointRefusedError: If it asks for a global outside the allow-list.
    """
    try:
        content = load()
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise _explain(path, error) from error
    except _UNREADABLE as error:
        if isinstance(error, RuntimeError):
            _raise_if_readable_elsewhere(path, error)
        raise _unreadable(path, error) from error
    leave_out_programs(content, path)
    return content


def _raise_if_readable_elsewhere(path: str | os.PathLike, error: RuntimeError) -> None:
    """Raise for an error of the device or the environment; return for one of the file."""
    message = str(error)
    if 'map_location' in message or 'data location' in message:
        first = message.partition('\n')[0].partition('. ')[0]
        raise UserError(
            f'checkpoint {str(path)!r} holds tensors of a device that cannot be used here '
            f"({first}): read it with map_location='cpu'"
        ) from error
    if 'TORCH_FORCE' in message:
        raise UserError(f'checkpoint {str(path)!r} cannot be read: {message}') from error
    if isinstance(error, torch.cuda.OutOfMemoryError) or 'CUDA' in message:
        raise error


def _explain(path: str | os.PathLike, error: pickle.UnpicklingError) -> UserError:
    """Turn torch's paragraphs into one sentence that names what the pickle asked for."""
    wanted = re.search(r'GLOBAL ([\w.]+)( (?:of|as) [\w ]+(?= is not))?', str(error))
    if wanted is None:
        return _unreadable(path, error)
    name = wanted[1] if '.' in wanted[1] else f'builtins.{wanted[1]}'
    return CheckpointRefusedError(
        f'checkpoint {str(path)!r} is refused and nothing in it was run: its pickle asks for '
        f'{name}{wanted[2] or ""}, but only tensors, numbers, numpy arrays of numbers or strings '
        'and HistoryBuffer of mmengine are allowed; ask its author for a file with only the '
        'weights (torch.save(dict(state_dict=model.state_dict()), path))'
    )


def _unreadable(path: str | os.PathLike, error: Exception) -> UserError:
    detail = re.sub(r'.*WeightsUnpickler error: ', '', str(error), flags=re.DOTALL)
    first = detail.strip().partition('\n')[0].partition('. ')[0].rstrip('.')
    reason = f'{type(error).__name__}: {first}'.rstrip(': ')
    return UserError(
        f'checkpoint {str(path)!r} cannot be read ({reason}): it is damaged, incomplete or '
        'not written by torch.save with its default protocol; use an earlier one or copy it again'
    )
