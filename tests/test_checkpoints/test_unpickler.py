"""The reader for torch 2.1 to 2.5 gives what torch gives, and no pickle gets around its table."""

import io
import pickle
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch
from torch import nn

from acon_mm.checkpoints import unpickler
from acon_mm.checkpoints.reading import safe_globals

P2 = b'\x80\x02'
STORAGE = (
    b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ'
)
HOOKS = b'ccollections\nOrderedDict\n)R'


def read(file, map_location='cpu'):
    return unpickler.load(file, map_location, safe_globals())


def saved(content, **kwargs):
    file = io.BytesIO()
    torch.save(content, file, **kwargs)
    return file


def archive(pickled, storage=bytes(16), compression=zipfile.ZIP_STORED):
    """Return an archive like those of torch.save with a pickle and one storage of four floats."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as out:
        out.writestr('archive/data.pkl', P2 + pickled + b'.')
        out.writestr('archive/data/0', storage)
        out.writestr('archive/version', b'3\n')
    return file


def tensor(offset=b'K\x00', size=b'K\x04\x85', stride=b'K\x01\x85', more=b''):
    """Return the pickle of a tensor on that storage."""
    call = b'ctorch._utils\n_rebuild_tensor_v2\n(' + STORAGE
    return call + offset + size + stride + b'\x89' + HOOKS + more + b'tR'


@pytest.mark.parametrize('zipped', [True, False])
def test_everything_that_torch_saves_of_dense_tensors_is_read_as_torch_reads_it(zipped):
    torch.manual_seed(0)
    base = torch.randn(6, 5)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    content = {
        'views': [base, base[1:, ::2], base.t(), base[0, 0], base.expand(2, 6, 5), base[:0]],
        'state': model.state_dict(),
        'parameter': nn.Parameter(torch.ones(2)),
        'dtypes': [torch.ones(3).to(dtype) for dtype in unpickler._STORAGE_TYPES.values()],
        'values': [1, -1, 2**40, 2**70, 1.5, None, True, 'text', b'bytes', (1,), (1, 2, 3, 4)],
        'more': [{1, 2}, 1 + 2j, bytearray(b'ab'), Counter('aab'), OrderedDict(a=1)],
        'of torch': [torch.Size((1, 2)), torch.device('cuda', 1), torch.int8, torch.strided],
        'leaf': torch.ones(2, requires_grad=True),
    }
    file = saved(content, _use_new_zipfile_serialization=zipped)
    file.seek(0)
    expected, found = torch.load(file, weights_only=False), read(file)
    assert found.keys() == expected.keys()
    for name in ('values', 'more', 'of torch'):
        assert found[name] == expected[name]
        assert [type(value) for value in found[name]] == [type(v) for v in expected[name]]
    assert found['state']._metadata == expected['state']._metadata
    for ours, theirs in zip(
        (*found['views'], *found['dtypes'], *found['state'].values(), found['parameter']),
        (
            *expected['views'],
            *expected['dtypes'],
            *expected['state'].values(),
            content['parameter'],
        ),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
        assert (ours.dtype, ours.stride(), type(ours)) == (
            theirs.dtype,
            theirs.stride(),
            type(theirs),
        )
    assert found['leaf'].requires_grad
    found['views'][0][1, 0] = 7  # tensors that shared their memory still do
    assert found['views'][1][0, 0] == found['views'][2][0, 1] == 7


def test_a_tensor_goes_where_map_location_says():
    file = saved({'a': torch.ones(2)})
    seen = []

    def place(storage, location):
        seen.append(location)

    assert torch.equal(read(file, place)['a'], torch.ones(2))
    assert seen == ['cpu']
    assert read(file, {'cpu': 'meta'})['a'].device.type == 'meta'
    for zipped in (True, False):
        file = saved({'a': torch.ones(2)}, _use_new_zipfile_serialization=zipped)
        assert read(file, torch.device('cpu'))['a'].device.type == 'cpu'
        assert read(file, 'meta')['a'].device.type == 'meta'


def test_the_handwritten_tensor_is_read():
    assert torch.equal(read(archive(tensor())), torch.zeros(4))


CALL_OF_SYSTEM = b'cposix\nsystem\nX\x05\x00\x00\x00touch\x85R'
ESCAPES = {
    'a function': CALL_OF_SYSTEM,
    'a function by NEWOBJ': CALL_OF_SYSTEM[:-1] + b'\x81',
    'a second pickle': b'ctorch.storage\n_load_from_bytes\nC\x02ab\x85R',
    'a second pickle as text': b'ctorch.storage\n_load_from_bytes\nX\x02\x00\x00\x00ab\x85R',
    'torch.load': b'ctorch\nload\nX\x01\x00\x00\x00a\x85R',
    'a module of torch': b'ctorch\nhub\n.',
    'a dotted name': b'ctorch\n_utils._rebuild_tensor.__globals__\n.',
    'an attribute': b'c__builtin__\ngetattr\ncnumpy\nndarray\nX\x06\x00\x00\x00tofile\x86R',
    'an attribute of a dict': b'c__builtin__\ngetattr\n}X\x03\x00\x00\x00pop\x86R',
    'a call of a value': b'X\x01\x00\x00\x00a)R',
    'a call of a result': HOOKS + b')R',
    'a call of a tuple': b'ccollections\nOrderedDict\nccollections\nOrderedDict\n\x86)R',
    'a call of a dtype': b'ctorch\nfloat32\n)R',
    'a call of a storage type': b'ctorch\nFloatStorage\n)R',
    'a function as a class': b'ccollections\nOrderedDict\n)\x81',
    'arguments that are no tuple': b'ccollections\nOrderedDict\n]R',
    'a state of a function': b'ctorch._utils\n_rebuild_tensor\n}X\x01\x00\x00\x00aK\x01sb',
    'a state of a class': b'cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb',
    'a state of a tensor': tensor() + b'}X\x04\x00\x00\x00dataK\x01sb',
    'a state of a list': b']}X\x01\x00\x00\x00aK\x01sb',
    'slots of a dict': HOOKS + b'}}X\x05\x00\x00\x00itemsK\x01s\x86b',
    'items of a tensor': tensor() + b'K\x00K\x01s',
    'items of a class': b'cnumpy\nndarray\nK\x00K\x01s',
    'values of a set': b'c__builtin__\nset\n]\x85RK\x01a',
    'values of a tensor': tensor() + b'(K\x01e',
    'another encoding': b'c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R',
    'elements outside': tensor(offset=b'K\x01'),
    'elements far outside': tensor(stride=b'J\xff\xff\xff\x7f\x85'),
    'a negative offset': tensor(offset=b'J\xff\xff\xff\xff'),
    'a negative size': tensor(size=b'J\xff\xff\xff\xff\x85'),
    'sizes and strides that differ': tensor(size=b'K\x01K\x01\x86'),
    'hooks': tensor().replace(HOOKS, HOOKS + b'K\x00K\x01s'),
    'metadata': tensor(more=b'}X\x04\x00\x00\x00conj\x88s'),
    'a storage that is a string': tensor().replace(b'tQ', b't0X\x01\x00\x00\x00a'),
    'a persistent function': b'(X\x06\x00\x00\x00modulecposix\nsystem\nX\x01\x00\x00\x00aX\x01\x00'
    b'\x00\x00btQ',
    'a persistent module': b'(X\x06\x00\x00\x00moduleccollections\nOrderedDict\nX\x01\x00\x00\x00'
    b'aX\x01\x00\x00\x00btQ',
    'a storage of another size': tensor().replace(b'cpuK\x04', b'cpuK\x05'),
    'a storage that is not there': tensor().replace(b'\x01\x00\x00\x000X', b'\x01\x00\x00\x009X'),
    'protocol 0': b"cposix\nsystem\n(S'touch'\ntR",
    'INST': b"(S'touch'\niposix\nsystem\n",
    'OBJ': b'(cposix\nsystem\nX\x05\x00\x00\x00toucho',
    'STACK_GLOBAL': b'\x8c\x05posix\x8c\x06system\x93X\x05\x00\x00\x00touch\x85R',
    'EXT1': b'\x82\x01',
    'NEWOBJ_EX': b'ccollections\nOrderedDict\n)}\x92',
}


@pytest.mark.parametrize('name', ESCAPES)
def test_a_pickle_that_asks_for_more_is_refused(name, monkeypatch):
    def run(*args):
        raise SystemExit('it ran')

    monkeypatch.setattr('posix.system', run)
    monkeypatch.setattr('pickle.loads', run)
    monkeypatch.setattr('torch.storage._load_from_bytes', run)
    monkeypatch.setattr('torch.load', run)
    with pytest.raises((pickle.UnpicklingError, ValueError, KeyError, TypeError)):
        read(archive(ESCAPES[name]))


def test_a_table_never_holds_what_runs_code_by_itself():
    """By identity: nothing in it is a function of Python, numpy or torch."""
    for target in (*unpickler._FUNCTIONS.values(), *safe_globals().values()):
        assert target.__module__.startswith('acon_mm.checkpoints.')


def test_an_archive_is_no_larger_in_memory_than_on_the_disk():
    with pytest.raises(ValueError, match='compressed'):
        read(archive(tensor(), compression=zipfile.ZIP_DEFLATED))


def test_a_file_of_the_old_format_that_is_cut_short_is_refused():
    whole = saved({'a': torch.ones(100)}, _use_new_zipfile_serialization=False).getvalue()
    for length in (10, len(whole) // 2, len(whole) - 1):
        with pytest.raises((EOFError, ValueError, KeyError, IndexError, pickle.UnpicklingError)):
            read(io.BytesIO(whole[:length]))
