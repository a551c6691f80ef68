import copy
import functools
import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from acon_mm.checkpoints import add_safe_globals, reading, register_safe_loading
from acon_mm.errors import CheckpointRefusedError, UserError


class Call:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


HARMFUL = {
    'posix.system': Call(os.system, 'touch payload'),
    'builtins.eval': Call(eval, "open('payload', 'w')"),
    'builtins.exec': Call(exec, "open('payload', 'w')"),
    'builtins.getattr': Call(getattr, np.ndarray, 'tofile'),
    'functools.partial': Call(functools.partial, os.system, 'touch payload'),
}


@pytest.fixture(params=['as torch 2.1', 'as this torch'])
def reader(request, monkeypatch):
    """Read as mmengine reads a checkpoint on this machine, by the reader for each torch."""
    if request.param == 'as torch 2.1':
        monkeypatch.setattr(reading, '_TORCH_TAKES_NAMES', False)
    elif not reading._TORCH_TAKES_NAMES:
        pytest.skip('this torch has no safe globals with names')
    return functools.partial(CheckpointLoader.load_checkpoint, map_location='cpu', logger=None)


def training_state():
    """Everything that a checkpoint of mmengine was seen to hold."""
    return {
        'meta': {'epoch': 1, 'seed': None, 'classes': ('a', 'b'), 'raw': b'bytes'},
        'state_dict': torch.nn.Linear(2, 3).state_dict(),
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.0, 3.0], [1, 1])}},
        'optimizer': {'state': {0: {'step': torch.tensor(3.0)}}, 'param_groups': [{'lr': 0.1}]},
        'best': np.float64(0.5),
        'count': np.int64(7),
        'palette': np.arange(6, dtype=np.uint8).reshape(2, 3),
        'names': np.array(['x', 'yz']),
        'big_endian': np.array([[1.5, 2.5], [3.5, 4.5]], dtype='>f4', order='F'),
        'flags': np.array([True, False]),
        'flag': np.bool_(True),
        'parameter': torch.nn.Parameter(torch.ones(2, dtype=torch.float16)),
        'dtype': torch.bfloat16,
    }


@pytest.mark.parametrize('zipped', [True, False])
def test_a_training_state_comes_back_as_it_was_saved(reader, tmp_path, zipped):
    path = str(tmp_path / 'state.pth')
    saved = training_state()
    torch.save(copy.deepcopy(saved), path, _use_new_zipfile_serialization=zipped)
    loaded = reader(path)

    assert loaded.keys() == saved.keys()
    for key in ('meta', 'optimizer', 'best', 'count', 'flag', 'dtype'):
        assert loaded[key] == saved[key]
    for key in ('palette', 'names', 'big_endian', 'flags'):
        np.testing.assert_array_equal(loaded[key], saved[key])
        assert loaded[key].dtype == saved[key].dtype.newbyteorder('=')
    assert torch.equal(loaded['parameter'], saved['parameter'])
    assert loaded['parameter'].dtype == torch.float16
    assert torch.equal(loaded['state_dict']['weight'], saved['state_dict']['weight'])
    history = loaded['message_hub']['log_scalars']['loss']
    assert type(history) is HistoryBuffer
    assert all(type(values) is np.ndarray for values in history.data)
    assert history.mean() == 2.0
    assert history.statistics('max') == 3.0


def test_what_was_read_is_saved_as_plain_numpy(reader, tmp_path):
    path = tmp_path / 'state.pth'
    torch.save(training_state(), path)
    again = io.BytesIO()
    torch.save(reader(str(path)), again)
    assert b'acon_mm' not in again.getvalue()


def test_a_file_written_under_numpy_1_is_read(reader, tmp_path):
    buffer, path = io.BytesIO(), tmp_path / 'old.pth'
    torch.save({'array': np.arange(3), 'scalar': np.float32(2)}, buffer)
    with zipfile.ZipFile(buffer) as new, zipfile.ZipFile(path, 'w') as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b'numpy._core', b'numpy.core'))
    assert b'numpy.core.multiarray' in path.read_bytes()

    loaded = reader(str(path))
    np.testing.assert_array_equal(loaded['array'], [0, 1, 2])
    assert loaded['scalar'] == 2


@pytest.mark.parametrize('wanted', HARMFUL)
@pytest.mark.parametrize('zipped', [True, False])
def test_a_harmful_pickle_is_refused_by_name_and_does_not_run(
    reader, tmp_path, monkeypatch, wanted, zipped
):
    monkeypatch.chdir(tmp_path)
    content = {**training_state(), 'extra': HARMFUL[wanted]}
    torch.save(content, 'bad.pth', _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointRefusedError) as refused:
        reader('bad.pth')
    assert wanted in str(refused.value)
    assert 'bad.pth' in str(refused.value)
    assert '\n' not in str(refused.value)
    assert not (tmp_path / 'payload').exists()


def test_a_harmful_pickle_of_another_protocol_does_not_run(reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(HARMFUL['posix.system'], 'bad.pth', pickle_protocol=4)
    with pytest.raises(UserError, match=r'bad\.pth'):
        reader('bad.pth')
    assert not (tmp_path / 'payload').exists()


@pytest.mark.filterwarnings('ignore')
def test_a_damaged_file_gets_one_sentence(reader, tmp_path):
    buffer = io.BytesIO()
    torch.save(training_state(), buffer)
    whole = buffer.getvalue()
    damaged = {
        'empty': b'',
        'short': whole[:500],
        'cut': whole[:-200],
        'text': b'this is no checkpoint',
        'pickle': pickle.dumps({'a': 1}),
        'page': b'<!doctype html><html>not found</html>',
    }
    for name, content in damaged.items():
        path = tmp_path / f'{name}.pth'
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            reader(str(path))
        assert path.name in str(error.value)
        assert 'damaged' in str(error.value)
        assert '\n' not in str(error.value)


@pytest.mark.filterwarnings('ignore')
def test_an_archive_of_torchscript_is_refused(reader, tmp_path):
    path = str(tmp_path / 'script.pth')
    torch.jit.script(torch.nn.Linear(2, 3)).save(path)
    with pytest.raises(UserError, match=r'script\.pth.*TorchScript'):
        reader(path)


@pytest.mark.parametrize('set_by_user', ['0', '1'])
def test_no_environment_variable_lifts_the_restriction(reader, tmp_path, monkeypatch, set_by_user):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', set_by_user)
    torch.save(HARMFUL['posix.system'], 'bad.pth')
    # torch refuses to read anything while both are set.
    refused_by_torch = set_by_user == '1' and reading._TORCH_TAKES_NAMES
    wanted = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' if refused_by_torch else r'posix\.system'
    with pytest.raises(UserError, match=wanted):
        reader('bad.pth')
    assert not (tmp_path / 'payload').exists()


@pytest.mark.parametrize(
    'message',
    [
        'Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is '
        'False. If you are running on a CPU-only machine, please use torch.load with '
        "map_location=torch.device('cpu') to map your storages to the CPU.",
        "don't know how to restore data location of torch.storage.UntypedStorage (tagged with x)",
    ],
)
def test_a_device_that_is_missing_is_not_called_damage(reader, tmp_path, monkeypatch, message):
    def load(*args, **kwargs):
        raise RuntimeError(message)

    path = tmp_path / 'gpu.pth'
    torch.save({}, path)
    monkeypatch.setattr(torch, 'load', load)
    monkeypatch.setattr(reading.unpickler, 'load', load)
    with pytest.raises(UserError, match=r"gpu\.pth.*map_location='cpu'") as error:
        reader(str(path))
    assert 'damaged' not in str(error.value)
    message = 'CUDA error: an illegal memory access was encountered'
    with pytest.raises(RuntimeError, match='CUDA error: an illegal'):
        reader(str(path))


def test_a_missing_file_is_named(reader):
    with pytest.raises(UserError, match=r"'nowhere/a\.pth' does not exist"):
        reader('nowhere/a.pth')


class Own:
    """A class of a user, with a state."""


def test_a_global_of_a_user_passes_once_it_is_allowed(reader, tmp_path):
    own = Own()
    own.number = 3
    path = str(tmp_path / 'own.pth')
    torch.save({'own': own}, path)
    with pytest.raises(CheckpointRefusedError, match=r'Own'):
        reader(path)
    add_safe_globals([Own])
    try:
        assert reader(path)['own'].number == 3
    finally:
        if hasattr(torch.serialization, 'clear_safe_globals'):
            torch.serialization.clear_safe_globals()
        reading._own.clear()


def test_importing_acon_mm_leaves_other_readers_alone():
    """What ``torch.load`` lets through stays; with the variable mmengine's loader stays, too."""
    code = (
        'import torch\n'
        'names = getattr(torch.serialization, "get_safe_globals", list)\n'
        'import acon_mm\n'
        'from mmengine.runner.checkpoint import CheckpointLoader\n'
        'loader = CheckpointLoader._get_checkpoint_loader("a.pth")\n'
        'ours = [name for name in names() if type(name) is tuple and "acon_mm" in repr(name)]\n'
        'print(len(ours), loader.__module__)'
    )
    for value, module in (
        ('', 'acon_mm.checkpoints.reading'),
        ('0', 'mmengine.runner.checkpoint'),
    ):
        run = subprocess.run(
            [sys.executable, '-c', code],
            env={**os.environ, 'ACON_MM_SAFE_LOADING': value},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.split() == ['0', module]


def test_torch_forgets_the_names_after_reading(reader, tmp_path):
    path = str(tmp_path / 'state.pth')
    torch.save(training_state(), path)
    before = list(getattr(torch.serialization, 'get_safe_globals', list)())
    reader(path)
    assert list(getattr(torch.serialization, 'get_safe_globals', list)()) == before


def test_registering_again_changes_nothing():
    register_safe_loading()
    assert CheckpointLoader._get_checkpoint_loader('a.pth') is reading.load_from_local
