"""Forged numpy objects in a checkpoint, and the stand-ins that refuse them."""

import copyreg
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from acon_mm.checkpoints import pickled_numpy

# numpy 1 and numpy 2 have them in different modules.
RECONSTRUCT, SCALAR = np.zeros(1).__reduce__()[0], np.float64(1).__reduce__()[0]


class Call:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


class Array:
    """An array with a chosen dtype and raw bytes, as a pickle of numpy spells it."""

    def __init__(self, dtype, data=b'A' * 8):
        self.dtype, self.data = dtype, data

    def __reduce__(self):
        return RECONSTRUCT, (np.ndarray, (0,), b'b'), (1, (1,), self.dtype, False, self.data)


class Dtype:
    """A dtype with a chosen state."""

    def __init__(self, code, *state):
        self.code, self.state = code, state

    def __reduce__(self):
        return np.dtype, (self.code, False, True), (3, *self.state)


class History:
    """A HistoryBuffer with a chosen state."""

    __class__ = HistoryBuffer  # pickle compares it with the class that it writes

    def __init__(self, **state):
        self.state = state

    def __reduce__(self):
        return copyreg.__newobj__, (HistoryBuffer,), self.state


def plain_state():
    return {'_log_history': np.ones(1), '_count_history': np.ones(1), 'max_length': 10}


FORGED_ARRAY = Call(np.ndarray, (1,), np.dtype('O'), bytearray(b'A' * 8))
ADDRESS = {
    '__array_interface__': {'shape': (1,), 'typestr': '<f8', 'data': (8, False), 'version': 3}
}
PLAIN = (None, None, None, -1, -1, 0)
FORGED = {
    'ndarray': FORGED_ARRAY,
    'ndarray_of_a_plain_code': Call(np.ndarray, (1,), 'O', bytearray(b'A' * 8)),
    'ndarray_of_numbers': Call(np.ndarray, (1,), 'f8', bytearray(b'A' * 8)),
    'ndarray_in_history': Call(HistoryBuffer, [FORGED_ARRAY], [1], 10),
    'history': Call(HistoryBuffer, [1.0], [1], 10),
    'history_of_an_address': Call(HistoryBuffer, [History(**plain_state() | ADDRESS)], [1], 10),
    'history_of_a_dict': History(**plain_state() | {'_log_history': {}}),
    'objects': Array(np.dtype('O')),
    'object_scalar': Call(SCALAR, np.dtype('O'), b'A' * 8),
    'O8': Array(Dtype('O8', '|', *PLAIN)),
    'void': Array(np.dtype('V8')),
    'record': Array(np.dtype([('a', 'O')])),
    'fields': Array(Dtype('f8', '<', None, ('a',), {'a': (np.dtype('i4'), 0)}, 8, 1, 63)),
    'subarray': Array(Dtype('f8', '<', (np.dtype('i4'), (9,)), None, None, 8, 1, 0)),
}


def test_forged_memory_is_refused(tmp_path):
    """In a process of its own, since such a payload ends the process that builds it."""
    for name, forged in FORGED.items():
        torch.save({'state_dict': {}, 'extra': forged}, tmp_path / f'{name}.pth')
    code = (
        'import sys\n'
        'import acon_mm\n'
        'from acon_mm.errors import CheckpointRefusedError\n'
        'from mmengine.runner.checkpoint import CheckpointLoader\n'
        'for name in sys.argv[1:]:\n'
        '    try:\n'
        "        CheckpointLoader.load_checkpoint(name + '.pth', 'cpu', logger=None)\n"
        '    except CheckpointRefusedError as error:\n'
        "        print('refused', name, error, flush=True)"
    )
    run = subprocess.run(
        [sys.executable, '-c', code, *FORGED], cwd=tmp_path, capture_output=True, text=True
    )
    refused = [line.split()[1] for line in run.stdout.splitlines() if line.startswith('refused')]
    assert refused == list(FORGED), run.stderr[-500:]
    assert run.returncode == 0


def test_memory_shared_with_a_tensor_is_not_freed():
    """A second state would free the bytes that ``torch.from_numpy`` looks at."""
    array = pickled_numpy.reconstruct(pickled_numpy.PickledArray, (0,), b'b')
    state = (1, (1,), pickled_numpy.PickledDtype('f8'), False, bytes(8))
    array.__setstate__(state)
    with pytest.raises(pickle.UnpicklingError):
        array.__setstate__(state)


@pytest.mark.parametrize('shape', [(2,), (-1, -1), (2**62, 4)])
def test_an_array_that_does_not_fit_its_bytes_is_unreadable(shape):
    array = pickled_numpy.reconstruct(pickled_numpy.PickledArray, (0,), b'b')
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        array.__setstate__((1, shape, pickled_numpy.PickledDtype('f8'), False, bytes(8)))


def test_reading_a_history_leaves_the_methods_of_the_class(tmp_path):
    HistoryBuffer()  # the first one registers the methods
    before = dict(HistoryBuffer._statistics_methods)
    state = plain_state() | {'statistics_methods': {'mean': 'not a method'}}
    torch.save({'history': History(**state)}, tmp_path / 'state.pth')
    read = CheckpointLoader.load_checkpoint(str(tmp_path / 'state.pth'), 'cpu', logger=None)
    assert read['history'].mean() == 1
    assert HistoryBuffer._statistics_methods == before
