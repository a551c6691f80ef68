"""Reading checkpoints without running what is inside them.

A checkpoint is a pickle, and a pickle can call any function while it is read. torch's
``weights_only=True`` allows a fixed list of globals. That list lacks three things which every
checkpoint of mmengine holds: its :class:`HistoryBuffer`, numpy arrays and numpy scalars.
:func:`safe_globals` adds exactly these, as stand-ins that check what they get. Everything else is
refused with a sentence. Config texts, which mmengine would run as Python, are left in only if they
hold nothing but values.

A global of your own passes after ``torch.serialization.add_safe_globals([YourClass])``, before
torch 2.4 after :func:`add_safe_globals`.
"""

import os
import pickle
import re
import struct
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from acon_mm._stack import release
from acon_mm.errors import CheckpointRefusedError, UserError

from . import pickled_numpy, unpickler
from .config_text import leave_out_programs
from .record import fault_of

# From 2.6 on, torch's own reader can be told by which names a pickle calls what is safe.
_TORCH_TAKES_NAMES = release(torch.__version__) >= (2, 6)

_own: dict[str, Any] = {}
_lock = threading.Lock()
_readers = 0

# What torch and zipfile raise on bytes that are no checkpoint, seen on truncated and random files.
_UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
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


def add_safe_globals(classes: Iterable[Any]) -> None:
    """Let checkpoints hold objects of these classes, whatever is in them.

    From torch 2.4 on, this is ``torch.serialization.add_safe_globals``, which counts here as well.

    Args:
        classes: The classes; each may run code of its own when an object of it is read.
    """
    classes = list(classes)
    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals(classes)
    else:
        _own.update({f'{cls.__module__}.{cls.__qualname__}': cls for cls in classes})


def load_tensors(file: str | os.PathLike | IO[bytes], map_location: Any = None) -> Any:
    """Read a checkpoint by the allow-list.

    Nothing of the process changes but torch's list of safe globals, and that while it reads.

    Args:
        file: A path, or a binary file that can be searched.
        map_location: Same as in :func:`torch.load`.

    Raises:
        Exception: What the reader raises, for :func:`read_safely`.
    """
    if isinstance(file, str | os.PathLike):
        with open(file, 'rb') as opened:
            return load_tensors(opened, map_location)
    if _TORCH_TAKES_NAMES:
        unpickler.check_before_torch(file)
        with _known_to_torch():
            return torch.load(file, map_location=map_location, weights_only=True)
    own = dict(_own)
    if hasattr(torch.serialization, 'get_safe_globals'):  # torch 2.4 and 2.5
        added: list[Any] = torch.serialization.get_safe_globals()
        own.update({f'{cls.__module__}.{cls.__qualname__}': cls for cls in added if callable(cls)})
    return unpickler.load(file, map_location, safe_globals(), own)


@contextmanager
def _known_to_torch() -> Iterator[None]:
    """Have torch know the safe globals, until the last thread that reads has left."""
    global _readers
    names = torch.serialization.safe_globals([(obj, name) for name, obj in safe_globals().items()])
    with _lock:
        if _readers == 0:
            names.__enter__()
        _readers += 1
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0:
                names.__exit__(None, None, None)


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
    return read_safely(lambda: load_tensors(path, map_location), path)


def read_safely(load: Callable[[], Any], path: str | os.PathLike) -> Any:
    """Read a checkpoint by a function that restricts what its pickle may call.

    Args:
        load: Calls :func:`load_tensors`.
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
