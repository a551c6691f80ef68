"""Files that no run may start from, by name: pickles that run something, and what is damaged.

What a payload runs makes the file ``payload`` in the current folder.
"""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import torch

SHELL = 'touch payload'
CODE = "open('payload', 'w')"
# The module that a payload imports; whoever reads the files puts it on the path.
MODULE = 'harmful_module'


def text(value):
    """Return the pickle of a text."""
    encoded = value.encode()
    return b'X' + struct.pack('<I', len(encoded)) + encoded


def call(name, *arguments):
    """Return the pickle of a call, by GLOBAL and REDUCE."""
    module, _, function = name.rpartition('.')
    return f'c{module}\n{function}\n('.encode() + b''.join(arguments) + b'tR'


def archive(content, storages=(('data/0', bytes(16)),), compression=zipfile.ZIP_STORED):
    """Return an archive as torch.save writes it, with a pickle written by hand."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as out:
        out.writestr('archive/data.pkl', content)
        for name, storage in storages:
            out.writestr(f'archive/{name}', storage)
        out.writestr('archive/version', b'3\n')
    return file.getvalue()


def with_payload(payload, protocol=b'\x80\x02'):
    """Return an archive of a state dict that holds a payload."""
    return archive(protocol + b'}' + text('state_dict') + payload + b's.')


def tensor(offset=0, size=(4,), stride=(1,), storage_size=4, key='0', kind='FloatStorage'):
    """Return the pickle of a tensor on a storage of four floats."""

    def numbers(values):
        return b'(' + b''.join(map(number, values)) + b't'

    storage = (
        b'(' + text('storage') + f'ctorch\n{kind}\n'.encode() + text(key) + text('cpu')
        + number(storage_size) + b'tQ'
    )  # fmt: skip
    hooks = b'ccollections\nOrderedDict\n)R'
    return (
        b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + number(offset) + numbers(size)
        + numbers(stride) + b'\x89' + hooks + b'tR'
    )  # fmt: skip


def number(value):
    """Return the pickle of a whole number."""
    encoded = value.to_bytes(9, 'little', signed=True)
    return b'\x8a\x09' + encoded


def with_tensor(pickled):
    """Return an archive of a state dict with that tensor."""
    return archive(b'\x80\x02}' + text('state_dict') + b'}' + text('a') + pickled + b'ss.')


def pickles():
    """Return the kinds of payload, by name."""
    system = call('posix.system', text(SHELL))
    reach = 'torch._utils._rebuild_tensor.__globals__'
    inner = pickle.dumps(_System(), 2).decode('latin1')
    second = b'c_codecs\nencode\n(' + text(inner) + text('latin1') + b'tR'
    return {
        'REDUCE posix.system': system,
        'REDUCE os.system': call('os.system', text(SHELL)),
        'REDUCE os.popen': call('os.popen', text(SHELL)),
        'REDUCE eval': call('builtins.eval', text(CODE)),
        'REDUCE eval of Python 2': call('__builtin__.eval', text(CODE)),
        'REDUCE exec': call('builtins.exec', text(CODE)),
        'REDUCE open': call('builtins.open', text('payload'), text('w')),
        'REDUCE getattr': call('builtins.getattr', b'cposix\nsystem\n', text('__call__')),
        'REDUCE __import__': call('builtins.__import__', text(MODULE)),
        'REDUCE importlib': call('importlib.import_module', text(MODULE)),
        'REDUCE runpy': call('runpy.run_module', text(MODULE)),
        'REDUCE subprocess.Popen': call(
            'subprocess.Popen', b'(' + text('touch') + text('payload') + b'l'
        ),
        'REDUCE subprocess.check_output': call(
            'subprocess.check_output', b'(' + text('touch') + text('payload') + b'l'
        ),
        'REDUCE functools.partial': call('functools.partial', b'cposix\nsystem\n', text(SHELL))
        + b')R',
        'REDUCE map': call('builtins.map', b'cposix\nsystem\n', b'(' + text(SHELL) + b'l'),
        'REDUCE profile': call('profile.run', text(CODE)),
        'REDUCE torch.load': call('torch.load', text('other.pth')),
        'REDUCE torch.hub': call('torch.hub.load_state_dict_from_url', text('file:other.pth')),
        'REDUCE pickle.loads': call('pickle.loads', second),
        'REDUCE _load_from_bytes': call('torch.storage._load_from_bytes', second),
        'REDUCE numpy.load': call('numpy.load', text('other.npy')),
        'REDUCE Config.fromstring': call(
            'mmengine.config.config.Config.fromstring', text(CODE), text('.py')
        ),
        'REDUCE shutil.copy': call('shutil.copy', text('bad.pth'), text('payload')),
        'REDUCE os.rename': call('os.rename', text('bad.pth'), text('payload')),
        'a module that is imported by its name': f'c{MODULE}\nvalue\n'.encode(),
        'a dotted name': f'ctorch\n{reach[6:]}\n'.encode(),
        'INST': b'(' + text(SHELL) + b'iposix\nsystem\n',
        'OBJ': b'(cposix\nsystem\n' + text(SHELL) + b'o',
        'NEWOBJ': b'csubprocess\nPopen\n(' + text('touch') + text('payload') + b'l\x85\x81',
        'NEWOBJ_EX': b'csubprocess\nPopen\n(' + text('touch') + text('payload') + b'l\x85}\x92',
        'BUILD of a function': b'ctorch._utils\n_rebuild_tensor\n}' + text('a') + b'K\x01sb',
        'BUILD of slots': b'ccollections\nOrderedDict\n)R}}' + text('items') + b'K\x01s\x86b',
        '__setstate__': b'ccode\nInteractiveInterpreter\n)\x81}' + text('a') + b'K\x01sb',
        'STACK_GLOBAL': b'\x8c\x05posix\x8c\x06system\x93' + text(SHELL) + b'\x85R',
        'STACK_GLOBAL from the memo': b'\x8c\x05posixq\x000\x8c\x06systemq\x010h\x00h\x01\x93'
        + text(SHELL) + b'\x85R',
        'a function from the memo': b'cposix\nsystem\nq\x000h\x00' + text(SHELL) + b'\x85R',
        'EXT1': b'\x82\x01' + text(SHELL) + b'\x85R',
        'EXT2': b'\x83\x01\x00' + text(SHELL) + b'\x85R',
        'EXT4': b'\x84\x01\x00\x00\x00' + text(SHELL) + b'\x85R',
        'a persistent function': b'(' + text('module') + b'cposix\nsystem\n' + text('a') + b'tQ',
        'a persistent text': b'Pstorage\n',
        'a persistent call': system + b'Q',
        'GLOBAL after a pickle of its own': b'.\x80\x02' + system,
    }  # fmt: skip


class _System:
    def __reduce__(self):
        return os.system, (SHELL,)


def saved(content, **options):
    """Return what torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def safetensors(header, data=bytes(16), length=None):
    """Return a file of safetensors with any header."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(encoded) if length is None else length) + encoded + data


def other_formats():
    """Return files that torch.save did not write, by name."""
    float32 = {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 16]}
    numpy_file, tar, script, programs = (io.BytesIO() for _ in range(4))
    np.save(numpy_file, np.array([_System()], dtype=object), allow_pickle=True)
    with tarfile.open(fileobj=tar, mode='w') as out:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            content = pickle.dumps(_System(), 2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), script)
    with zipfile.ZipFile(programs, 'w') as out:
        out.writestr(
            'archive/constants.pkl', b'\x80\x02' + call('posix.system', text(SHELL)) + b'.'
        )
        out.writestr('archive/data.pkl', b'\x80\x02' + call('posix.system', text(SHELL)) + b'.')
        out.writestr('archive/version', b'3\n')
    return {
        'empty': b'',
        'zeros': bytes(4096),
        'a page': b'<!doctype html><html><body>404 Not Found</body></html>',
        'json': b'{"state_dict": {"a": [1, 2]}}',
        'a pointer of git lfs': b'version https://git-lfs.github.com/spec/v1\nsize 12345\n',
        'png': b'\x89PNG\r\n\x1a\n' + bytes(100),
        'a plain pickle that runs': pickle.dumps(_System(), 2),
        'a plain pickle of protocol 0': pickle.dumps(_System(), 0),
        'a plain pickle of protocol 5': pickle.dumps(_System(), 5),
        'numpy file of objects': numpy_file.getvalue(),
        'tar that runs': tar.getvalue(),
        'torchscript': script.getvalue(),
        'torchscript that runs': programs.getvalue(),
        'zip of something else': _zip({'readme.txt': b'hello'}),
        'zip without entries': _zip({}),
        'safetensors of no header': safetensors(b'', b''),
        'safetensors of a broken header': safetensors(b'{"a": '),
        'safetensors of a huge header': safetensors({'a': float32}, length=2**62),
        'safetensors with offsets outside': safetensors(
            {'a': {**float32, 'data_offsets': [0, 2**40], 'shape': [2**38]}}
        ),
        'safetensors with a shape that does not fit': safetensors(
            {'a': {**float32, 'shape': [9]}}
        ),
        'safetensors cut short': safetensors({'a': float32}, bytes(3)),
    }


def _zip(records):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as out:
        for name, content in records.items():
            out.writestr(name, content)
    return file.getvalue()


def damaged():
    """Return files of torch.save that were damaged, and tensors that lie about themselves."""
    state = {'meta': {'epoch': 1}, 'state_dict': {'line.weight': torch.arange(400.0)}}
    whole, old = saved(state), saved(state, _use_new_zipfile_serialization=False)
    files = {
        f'cut at {share:.0%}, {name}': content[: int(len(content) * share)]
        for name, content in (('zip', whole), ('old format', old))
        for share in (0.01, 0.1, 0.5, 0.9, 0.999)
    }
    middle = whole.index(torch.arange(400.0).numpy().tobytes())
    for name, place in {'head': 2, 'pickle': whole.index(b'state_dict'), 'tensor': middle,
                        'directory': len(whole) - 100}.items():  # fmt: skip
        content = bytearray(whole)
        content[place] ^= 0xFF
        files[f'a flipped byte, {name}'] = bytes(content)
    gibibytes = 4 << 30
    huge = gibibytes // 4 - 4
    bomb = b'\x80\x02}' + text('a') + tensor(size=(huge,), storage_size=huge) + b's.'
    files['a zip bomb'] = _claiming(
        archive(bomb, compression=zipfile.ZIP_DEFLATED), gibibytes - 16, is_packed=True
    )
    files['a zip that claims 4 GiB'] = _claiming(
        with_tensor(tensor(size=(huge,), storage_size=huge)), gibibytes - 16
    )
    text_bomb = b'\x80\x02X' + struct.pack('<I', 0xFFFFFFF0) + b'a.'
    files['a text that claims 4 GiB'] = archive(text_bomb)
    files['bytes that claim 2**62'] = archive(b'\x80\x04\x8e' + struct.pack('<Q', 2**62) + b'a.')
    files['a bytearray of 4 GiB'] = with_payload(call('builtins.bytearray', number(gibibytes)))
    files['a bytearray of 4 GiB in an old file'] = _old_format(
        call('builtins.bytearray', number(gibibytes)) + b'.'
    )
    files['lists inside lists'] = archive(b'\x80\x02' + b']' * 10**5 + b'a' * (10**5 - 1) + b'.')
    files['a number of a million digits'] = with_payload(b'\x8b' + struct.pack('<i', -1))
    claims = tensor(size=(huge,), storage_size=huge)
    files['an old file that claims 4 GiB'] = _old_format(b'}' + text('a') + claims + b's.')
    files['a plain shape'] = with_tensor(tensor(kind='UntypedStorage', storage_size=2**40))
    for name, lie in {
        'shape outside': {'size': (5,)},
        'stride outside': {'stride': (2**40,)},
        'offset outside': {'offset': 1},
        'huge offset': {'offset': 2**61},
        'negative size': {'size': (-4,)},
        'negative stride': {'stride': (-1,)},
        'negative offset': {'offset': -1},
        'more strides than sizes': {'stride': (1, 1)},
        'overflowing shape': {'size': (2**40, 2**40), 'stride': (2**40, 1)},
        'huge storage': {'size': (huge,), 'storage_size': huge},
        'negative storage': {'storage_size': -4},
        'no such storage': {'key': '9'},
        'a storage outside the archive': {'key': '../../../etc/passwd'},
        'a storage of another type': {'kind': 'Tensor'},
    }.items():
        files[f'a tensor with {name}'] = with_tensor(tensor(**lie))
    return files


def _claiming(content, size, is_packed=False):
    """Write another size of the record ``data/0`` into both places of an archive.

    Of a packed record the size in the file stays.
    """
    content = bytearray(content)
    for signature, place, name_at in ((b'PK\x03\x04', 22, 30), (b'PK\x01\x02', 24, 46)):
        at = content.find(signature)
        while at >= 0:
            if content[at + name_at :].startswith(b'archive/data/0'):
                struct.pack_into('<I', content, at + place, size)
                if not is_packed:
                    struct.pack_into('<I', content, at + place - 4, size)
            at = content.find(signature, at + 4)
    return bytes(content)


def _old_format(content):
    """Return a file of torch before 1.6 with a pickle written by hand and no storage."""
    info = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}}
    start = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, info]
    head = b''.join(pickle.dumps(value, 2) for value in start)
    return head + b'\x80\x02' + content + pickle.dumps(['0'], 2) + struct.pack('<q', 1 << 30)


def wrong_contents():
    """Return files that torch reads and that hold no weights of any network."""
    weight = torch.ones(1)
    contents = {
        'None': None,
        'a number': 3,
        'a text': 'weights',
        'a list of tensors': [weight],
        'a tensor': weight,
        'an empty dict': {},
        'a state dict of None': {'state_dict': None},
        'a state dict of a number': {'state_dict': 3},
        'a state dict of a list': {'state_dict': [weight]},
        'a state dict of a text': {'state_dict': 'weights'},
        'an empty state dict': {'state_dict': OrderedDict()},
        'a nested state dict': {'state_dict': {'model': {'a': weight}}},
        'numbers as names': {'state_dict': {0: weight}},
        'lists as weights': {'state_dict': {'a': [1.0, 2.0]}},
        'arrays as weights': {'state_dict': {'a': np.ones(2)}},
        'None as a weight': {'state_dict': {'a': None}},
        'a meta that is a list': {'meta': [1], 'state_dict': {'a': [1.0]}},
    }
    return {f'content: {name}': saved(content) for name, content in contents.items()}


def corpus():
    """Return the bytes of each file by its name; every reader has to refuse each of them."""
    calls = pickles()
    files = {f'pickle: {name}': with_payload(payload) for name, payload in calls.items()}
    files['pickle: protocol 0'] = archive(pickle.dumps({'state_dict': _System()}, 0))
    files['pickle: protocol 5'] = archive(pickle.dumps({'state_dict': _System()}, 5))
    old = {'state_dict': {'a': torch.ones(1)}, 'x': _System()}
    files['pickle: old format'] = saved(old, _use_new_zipfile_serialization=False)
    array = call(
        'numpy.core.multiarray._reconstruct', b'cnumpy\nndarray\n', b'K\x00\x85', b'C\x01b'
    )
    files['an array of objects'] = with_payload(
        array + b'(K\x01K\x01\x85' + call('numpy.dtype', text('O8'), b'\x89', b'\x88')
        + b'\x89' + b']' + calls['REDUCE posix.system'] + b'atb'
    )  # fmt: skip
    return {**files, **other_formats(), **damaged(), **wrong_contents()}
