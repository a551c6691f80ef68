"""Stand-ins for what a checkpoint of mmengine names besides tensors.

numpy's own constructors trust a pickle: ``numpy.ndarray((1,), 'O', data)`` reads bytes as
pointers to objects, and the state of a ``numpy.dtype`` sets its internal flags. So torch's reader
meets the classes of this module under the names that a pickle gives numpy's. They take exactly
what numpy and :class:`HistoryBuffer` write, check it, and only then build the real thing.
"""

import math
import pickle
import re
from typing import Any, SupportsIndex

import numpy as np
from mmengine.logging import HistoryBuffer

# Booleans, integers, floats, complex numbers and strings: bytes of any value are valid in them.
_PLAIN_DTYPE = re.compile(r'b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|[SU]\d{1,6}')


def _refuse(wanted: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f'GLOBAL {wanted} is not allowed')


class PickledDtype:
    """Stand in for ``numpy.dtype``; hold a dtype of numbers or strings in ``dtype``."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if type(code) is not str or not _PLAIN_DTYPE.fullmatch(code):
            raise _refuse('numpy.dtype of objects or records')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        # Version, byte order, subarray, names, fields; the rest follows from the code.
        if type(state) is not tuple or len(state) < 5 or state[2:5] != (None, None, None):
            raise _refuse('numpy.dtype of objects or records')
        if state[1] not in ('<', '>', '|', '='):
            raise _refuse('numpy.dtype of an unknown byte order')
        self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray(np.ndarray):
    """Stand in for ``numpy.ndarray``, which only :func:`reconstruct` may make.

    The reader fills an array in place, so that this class remains the class of what was read. It
    is saved as the plain array that it is.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> 'PickledArray':
        raise _refuse('numpy.ndarray as a function')

    def __setstate__(self, state: tuple) -> None:
        # Filling an array twice would free memory which a tensor may share by now.
        if self.size or type(state) is not tuple or len(state) != 5:
            raise _refuse('numpy.ndarray.__setstate__ of an unknown form')
        _, shape, dtype, fortran, data = state
        if type(dtype) is not PickledDtype or type(shape) is not tuple or type(data) is not bytes:
            raise _refuse('numpy.ndarray.__setstate__ of an unknown form')
        if not all(type(length) is int and length >= 0 for length in shape):
            raise _refuse('numpy.ndarray.__setstate__ of an unknown form')
        if math.prod(shape) * dtype.dtype.itemsize != len(data):
            raise ValueError(f'an array of shape {shape} does not fit its {len(data)} bytes')
        # numpy's annotation asks for a numpy.bool, numpy itself does not.
        super().__setstate__((1, shape, dtype.dtype, bool(fortran), data))  # type: ignore[arg-type]

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


class PickledHistory:
    """Stand in for mmengine's :class:`HistoryBuffer`, which it becomes when its state is read."""

    def __init__(self, *args: Any) -> None:
        # Its `np.array` would follow an `__array_interface__`, and so any address, of an argument.
        raise _refuse('mmengine.logging.history_buffer.HistoryBuffer as a function')

    def __setstate__(self, state: dict) -> None:
        # `statistics_methods` stays unread: it would change the methods of the whole class.
        values = state['_log_history'], state['_count_history']
        limit = state['max_length']
        if type(limit) is not int or any(type(value) is not PickledArray for value in values):
            raise _refuse('mmengine.logging.history_buffer.HistoryBuffer of something else')
        self.__class__ = HistoryBuffer
        HistoryBuffer.__init__(self, *values, limit)


def reconstruct(cls: type, shape: tuple, code: bytes) -> PickledArray:
    """Stand in for numpy's ``_reconstruct``: return an array that waits for its state."""
    if cls is not PickledArray or shape != (0,) or code != b'b':
        raise _refuse('numpy._core.multiarray._reconstruct of an unknown form')
    return np.ndarray.__new__(PickledArray, (0,), 'b')


def scalar(dtype: PickledDtype, data: bytes) -> np.generic:
    """Stand in for numpy's ``scalar``."""
    if type(dtype) is not PickledDtype or type(data) is not bytes:
        raise _refuse('numpy._core.multiarray.scalar of an unknown form')
    if len(data) != dtype.dtype.itemsize:
        raise ValueError(f'a scalar of {dtype.dtype} does not fit its {len(data)} bytes')
    # The annotation of [()] does not know that an array of no dimensions gives a scalar.
    return np.ndarray((), dtype.dtype, data)[()]  # type: ignore[return-value]


def history_method(owner: Any, name: str) -> None:
    """Stand in for the ``getattr`` by which a pickled HistoryBuffer names its own four methods."""
    if owner is not PickledHistory or name not in ('current', 'max', 'mean', 'min'):
        raise _refuse('builtins.getattr')
