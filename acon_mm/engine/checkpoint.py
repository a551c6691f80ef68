"""Reading checkpoints without running what is inside them.

A checkpoint is a pickle, and a pickle can call any function while it is read. torch's
``weights_only=True`` lets a fixed list of globals through, and that list lacks three things which
every checkpoint of mmengine holds: its :class:`HistoryBuffer`, numpy arrays and numpy scalars.
:func:`register_safe_loading` adds exactly these and makes every way by which mmengine reads a
checkpoint (``--resume``, ``load_from``, ``init_cfg=dict(type='Pretrained')``, ``tools/test.py``)
refuse the rest with a sentence.
"""

import functools
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import digit_version

from . import restricted_pickle
from .errors import UserError

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray

# torch 2.4 and 2.5 have `add_safe_globals` but not its (object, name) form, without which a file
# written under numpy 1 (`numpy.core`) cannot be read under numpy 2 (`numpy._core`).
HAS_NAMED_SAFE_GLOBALS = digit_version(torch.__version__) >= digit_version('2.6.0')

# Loaders of mmengine for files that are not on this machine, under the prefixes it gives them.
# They end in `torch.hub.load_state_dict_from_url`, whose default is still `weights_only=False`.
_REMOTE_LOADERS = {
    'load_from_http': ('http://', 'https://'),
    'load_from_torchvision': ('modelzoo://', 'torchvision://'),
    'load_from_openmmlab': ('open-mmlab://', 'openmmlab://'),
    'load_from_mmcls': ('mmcls://',),
    'load_from_ceph': (r'(\S+\:)?s3://', r'(\S+\:)?petrel://'),
    'load_from_pavi': ('pavi://',),
}

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


class CheckpointRefusedError(UserError):
    """A checkpoint asks for a global outside the allow-list; nothing of it was run."""


def safe_globals() -> dict[str, Any]:
    """Return what a checkpoint may name besides torch's own list, by the name a pickle uses."""
    allowed = {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'builtins.getattr': _history_method,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    for core in ('numpy.core', 'numpy._core'):
        allowed[f'{core}.multiarray._reconstruct'] = multiarray._reconstruct
        allowed[f'{core}.multiarray.scalar'] = multiarray.scalar
    # A dtype is an instance of a class of its own, and torch asks for the class of an instance.
    # numpy has kept these classes in a public module since 1.25.
    for name in getattr(getattr(np, 'dtypes', None), '__all__', ()):
        allowed[f'numpy.dtypes.{name}'] = getattr(np.dtypes, name)
    return allowed


def _history_method(owner: Any, name: str) -> Callable:
    """Stand in for the ``getattr`` by which a pickled HistoryBuffer names its own four methods."""
    if owner is not HistoryBuffer or name not in ('current', 'max', 'mean', 'min'):
        raise pickle.UnpicklingError(f'GLOBAL builtins.getattr of {name!r} is not allowed')
    return getattr(HistoryBuffer, name)


def register_safe_loading() -> None:
    """Make mmengine read every checkpoint by the allow-list; calling it again changes nothing.

    On torch < 2.6 files on this machine are read by :mod:`.restricted_pickle`, which follows the
    same list.
    """
    if HAS_NAMED_SAFE_GLOBALS:
        torch.serialization.add_safe_globals([(obj, name) for name, obj in safe_globals().items()])
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    for name, prefixes in _REMOTE_LOADERS.items():
        loader = getattr(mmengine_checkpoint, name)
        CheckpointLoader.register_scheme(prefixes, _force_weights_only(loader), force=True)


def load_from_local(filename: str | os.PathLike, map_location: Any = None) -> Any:
    """Read a checkpoint on this machine, letting only tensors and logged numbers through.

    Args:
        filename: Path of the checkpoint; ``~`` is expanded.
        map_location: Same as in :func:`torch.load`.

    Returns:
        What was saved, usually a dict with ``meta`` and ``state_dict``.

    Raises:
        UserError: If the file is missing, damaged or no checkpoint.
        CheckpointRefusedError: If it asks for a global outside the allow-list.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise UserError(f'checkpoint {str(path)!r} does not exist; give the path of a .pth file')
    try:
        if HAS_NAMED_SAFE_GLOBALS:
            return torch.load(path, map_location=map_location, weights_only=True)
        return restricted_pickle.load(path, map_location, safe_globals())
    except pickle.UnpicklingError as error:
        raise _explain(path, error) from None
    except torch.cuda.OutOfMemoryError:
        raise
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None


def _force_weights_only(loader: Callable) -> Callable:
    """Wrap a loader of mmengine so that its inner ``torch.load`` is restricted."""

    @functools.wraps(loader)  # mmengine logs the loader by its `__name__`
    def load(filename: str, map_location: Any = None, **kwargs) -> Any:
        # torch's own switch overrules a `weights_only=False` that a caller passed on.
        variable = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
        before = os.environ.get(variable)
        os.environ[variable] = '1'
        try:
            return loader(filename, map_location, **kwargs)
        except pickle.UnpicklingError as error:
            raise _explain(filename, error) from None
        finally:
            if before is None:
                del os.environ[variable]
            else:
                os.environ[variable] = before

    return load


def _explain(path: str | os.PathLike, error: pickle.UnpicklingError) -> UserError:
    """Turn torch's paragraphs into one sentence that names what the pickle wanted."""
    wanted = re.search(r'GLOBAL ([\w.]+)', str(error))
    if wanted is None:
        return _unreadable(path, error)
    name = wanted[1] if '.' in wanted[1] else f'builtins.{wanted[1]}'
    return CheckpointRefusedError(
        f'checkpoint {str(path)!r} is refused and nothing in it was run: its pickle wants {name}, '
        'and only tensors, numbers, numpy arrays and HistoryBuffer of mmengine are let through; '
        'ask its author for the weights alone (torch.save(dict(state_dict=model.state_dict()), '
        'path))'
    )


def _unreadable(path: str | os.PathLike, error: Exception) -> UserError:
    detail = re.sub(r'.*WeightsUnpickler error: ', '', str(error), flags=re.DOTALL)
    first = detail.strip().partition('\n')[0].partition('. ')[0].rstrip('.')
    reason = f'{type(error).__name__}: {first}'.rstrip(': ')
    return UserError(
        f'checkpoint {str(path)!r} cannot be read ({reason}): it is damaged, cut short or no file '
        'of torch.save with its default pickle protocol; take an earlier one or copy it again'
    )
