"""A reader of checkpoints with an allow-list, for torch 2.1 to 2.5.

Since 2.6, :func:`torch.load` takes names of globals that it may let through. Before, it takes none
or none by name, and with ``weights_only=True`` it still runs TorchScript archives. So there the
files are read here: the archives of :func:`torch.save` and its format before torch 1.6.

The pickle may use the operations of pickle protocol 2 alone. A global in it is looked up in a
table of this module and never imported; what is found cannot be called but by this unpickler,
which calls functions of this project in place of the ones that are named. These check their
arguments. Only a dict, a list, an array and the like can be filled, only by what belongs there.
"""

import pickle
import pickletools
import struct
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from . import pickled_numpy

Restore = Callable[[torch.UntypedStorage, str], torch.UntypedStorage]
Allowed = tuple[dict[str, Any], dict[str, Any]]

_OPERATIONS = (
    *('PROTO', 'STOP', 'MARK', 'BINPUT', 'LONG_BINPUT', 'BINGET', 'LONG_BINGET', 'BINPERSID'),
    *('NONE', 'NEWTRUE', 'NEWFALSE', 'BININT', 'BININT1', 'BININT2', 'LONG1', 'LONG4'),
    *('BINFLOAT', 'BINUNICODE', 'SHORT_BINSTRING', 'GLOBAL', 'REDUCE', 'NEWOBJ', 'BUILD'),
    *('EMPTY_TUPLE', 'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3', 'EMPTY_LIST', 'APPEND', 'APPENDS'),
    *('EMPTY_DICT', 'SETITEM', 'SETITEMS'),
)
_ZIP_START = b'PK\x03\x04'
_DICTS = (dict, OrderedDict, Counter)
_CHECKING = (
    pickled_numpy.PickledArray,
    pickled_numpy.PickledDtype,
    pickled_numpy.PickledHistory,
)
"""What takes a state and checks it."""


class Global(NamedTuple):
    """What a name in a pickle stands for; nothing that could be called by itself.

    Attributes:
        name: The name.
        target: What to call in its place.
        is_own: Whether the user allowed it, for any argument and state.
    """

    name: str
    target: Any
    is_own: bool = False


class Storage(NamedTuple):
    """A storage as a pickle names it: elements of a dtype in a storage of bytes."""

    untyped: torch.UntypedStorage
    dtype: torch.dtype
    size: int


class StorageType(NamedTuple):
    """The class of a storage."""

    dtype: torch.dtype


def _refuse(wanted: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f'GLOBAL {wanted} is not allowed')


def _check(name: str, holds: bool) -> None:
    if not holds:
        raise _refuse(f'{name} of an unknown form')


def _are_sizes(values: Any) -> bool:
    is_tuple = type(values) in (tuple, torch.Size)
    return is_tuple and all(type(value) is int and value >= 0 for value in values)


def _rebuild_tensor(storage: Storage, offset: int, size: tuple, stride: tuple) -> Tensor:
    name = 'torch._utils._rebuild_tensor'
    _check(name, type(storage) is Storage and _are_sizes((offset,)))
    _check(name, _are_sizes(size) and _are_sizes(stride) and len(size) == len(stride))
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.size:
        raise ValueError(f'a tensor of shape {tuple(size)} does not fit its storage')
    tensor = torch.empty(0, dtype=storage.dtype, device=storage.untyped.device)
    return tensor.set_(storage.untyped, offset, tuple(size), tuple(stride))


def _rebuild_tensor_v2(
    storage: Storage,
    offset: int,
    size: tuple,
    stride: tuple,
    requires_grad: bool,
    hooks: OrderedDict,
    metadata: Any = None,
) -> Tensor:
    _check('torch._utils._rebuild_tensor_v2', type(requires_grad) is bool and not metadata)
    _check('torch._utils._rebuild_tensor_v2', type(hooks) in _DICTS and not hooks)
    return _rebuild_tensor(storage, offset, size, stride).requires_grad_(requires_grad)


def _rebuild_parameter(data: Tensor, requires_grad: bool, hooks: OrderedDict) -> nn.Parameter:
    name = 'torch._utils._rebuild_parameter'
    _check(name, type(data) is Tensor and type(requires_grad) is bool)
    _check(name, type(hooks) in _DICTS and not hooks)
    return nn.Parameter(data, requires_grad)


def _make_size(size: tuple) -> torch.Size:
    _check('torch.Size', _are_sizes(size))
    return torch.Size(size)


def _make_device(kind: str, index: int | None = None) -> torch.device:
    _check('torch.device', type(kind) is str and type(index) in (int, type(None)))
    return torch.device(kind) if index is None else torch.device(kind, index)


def _get_layout(name: str) -> torch.layout:
    layout: Any = _torch_constant(name) if type(name) is str else None
    _check('torch.serialization._get_layout', isinstance(layout, torch.layout))
    return layout


def _make_dict(kind: type, content: Any = ()) -> Any:
    is_plain = type(content) in (tuple, list, *_DICTS)
    _check(f'collections.{kind.__name__}', is_plain)
    return kind(content)


def _make_set(values: list) -> set:
    _check('builtins.set', type(values) in (list, tuple))
    return set(values)


def _make_complex(real: float, imaginary: float) -> complex:
    _check('builtins.complex', type(real) is float and type(imaginary) is float)
    return complex(real, imaginary)


def _encode(text: str, encoding: str = 'utf-8') -> bytes:
    _check('_codecs.encode', type(text) is str and encoding in ('latin1', 'latin-1', 'utf-8'))
    return text.encode(encoding)


def _make_bytearray(content: Any = b'', encoding: str | None = None) -> bytearray:
    content = content if encoding is None else _encode(content, encoding)
    _check('builtins.bytearray', type(content) is bytes)
    return bytearray(content)


_FUNCTIONS: dict[str, Callable] = {
    'collections.OrderedDict': lambda *content: _make_dict(OrderedDict, *content),
    'collections.Counter': lambda *content: _make_dict(Counter, *content),
    'torch._utils._rebuild_tensor': _rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': _rebuild_tensor_v2,
    'torch._utils._rebuild_parameter': _rebuild_parameter,
    'torch.Size': _make_size,
    'torch.device': _make_device,
    'torch.serialization._get_layout': _get_layout,
    'builtins.set': _make_set,
    'builtins.complex': _make_complex,
    'builtins.bytearray': _make_bytearray,
    '_codecs.encode': _encode,
}
"""What stands in for the functions that torch lets through, by their names."""

_STORAGE_TYPES = {
    'Bool': torch.bool,
    'Byte': torch.uint8,
    'Char': torch.int8,
    'Short': torch.int16,
    'Int': torch.int32,
    'Long': torch.int64,
    'Half': torch.float16,
    'BFloat16': torch.bfloat16,
    'Float': torch.float32,
    'Double': torch.float64,
    'ComplexFloat': torch.complex64,
    'ComplexDouble': torch.complex128,
}


def _torch_constant(name: str) -> Any:
    """Return the dtype or layout of a name like ``'torch.float32'``, None if it is none."""
    start, _, short = name.rpartition('.')
    found = vars(torch).get(short) if start == 'torch' else None
    return found if isinstance(found, torch.dtype | torch.layout) else None


# Python's unpickler in Python: a step of it can be replaced, one of the version in C cannot.
PythonUnpickler: Any = pickle._Unpickler


class Unpickler(PythonUnpickler):
    """Read one pickle; see the head of this file.

    Args:
        file: A binary file.
        allowed: What may be named besides the globals of torch, by name.
        own: What the user allowed, by name.
        storage: Returns the storage of a dtype, a key, a location and a size.
    """

    dispatch: ClassVar[dict] = {
        getattr(pickle, name)[0]: PythonUnpickler.dispatch[getattr(pickle, name)[0]]
        for name in _OPERATIONS
    }

    def __init__(
        self,
        file: IO[bytes],
        allowed: dict[str, Any],
        own: dict[str, Any],
        storage: Callable[[torch.dtype, str, str, int], Storage] | None = None,
    ) -> None:
        super().__init__(file, encoding='utf-8')
        self.allowed, self.own, self.storage = allowed, own, storage

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for."""
        full = f'{module.replace("__builtin__", "builtins")}.{name}'
        if full in self.own:
            return Global(full, self.own[full], is_own=True)
        target = self.allowed.get(full) or _FUNCTIONS.get(full)
        if target is not None:
            return Global(full, target)
        if full == 'torch.storage.UntypedStorage':
            return StorageType(torch.uint8)
        if module == 'torch' and name.removesuffix('Storage') in _STORAGE_TYPES:
            return StorageType(_STORAGE_TYPES[name.removesuffix('Storage')])
        constant = _torch_constant(full)
        if constant is None:
            raise _refuse(full)
        return constant

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that the pickle names."""
        # The seventh says that it is a view of another one, as before torch 0.4.
        is_plain = type(pid) is tuple and (len(pid) == 5 or (len(pid) == 6 and pid[5] is None))
        _check('a persistent object', is_plain and self.storage is not None)
        kind, cls, key, location, size = pid[:5]
        _check('a persistent object', kind == 'storage' and type(cls) is StorageType)
        _check('a persistent object', type(key) is str and type(location) is str)
        _check('a persistent object', _are_sizes((size,)))
        return self.storage(cls.dtype, key, location, size)  # type: ignore[misc]

    def _call(self, called: Any, arguments: Any, by_new: bool) -> Any:
        if type(called) is not Global or type(arguments) is not tuple:
            raise _refuse(f'{getattr(called, "name", called)} as a function')
        is_class = isinstance(called.target, type)
        if by_new and not is_class:
            raise _refuse(f'{called.name} as a class')
        plain = [value.target if type(value) is Global else value for value in arguments]
        if by_new:
            return called.target.__new__(called.target, *plain)
        return called.target(*plain)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments, by_new=False)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments, by_new=True)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        is_own = type(target) in [value for value in self.own.values() if isinstance(value, type)]
        if type(target) in _CHECKING or (is_own and hasattr(target, '__setstate__')):
            target.__setstate__(state)
        elif (type(target) is OrderedDict or is_own) and type(state) is dict:
            vars(target).update(state)
        else:
            raise _refuse(f'{type(target).__name__} with a state')

    def _checked(self, inherited: Callable, classes: Iterable[type], of_mark: bool) -> None:
        # Below the mark lies what is filled; without one, below the value or key and value.
        target = (
            self.metastack[-1][-1] if of_mark else self.stack[-2 if classes == (list,) else -3]
        )
        if type(target) not in classes:
            raise _refuse(f'{type(target).__name__} as a container')
        inherited(self)

    def load_append(self) -> None:
        self._checked(PythonUnpickler.load_append, (list,), False)

    def load_appends(self) -> None:
        self._checked(PythonUnpickler.load_appends, (list,), True)

    def load_setitem(self) -> None:
        self._checked(PythonUnpickler.load_setitem, _DICTS, False)

    def load_setitems(self) -> None:
        self._checked(PythonUnpickler.load_setitems, _DICTS, True)

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def load(
    file: IO[bytes],
    map_location: Any = None,
    allowed: dict[str, Any] | None = None,
    own: dict[str, Any] | None = None,
) -> Any:
    """Read what :func:`torch.save` wrote with its default pickle protocol.

    Dense tensors and parameters without attributes are read, quantised and sparse ones not.

    Args:
        file: A binary file that can be searched.
        map_location: Same as in :func:`torch.load`.
        allowed: What the pickle may name besides the globals of torch: what to call, by name.
        own: Classes and functions that may be called with any arguments, by name.

    Raises:
        pickle.UnpicklingError: If the pickle wants something else.
        RuntimeError: If a device is missing, or the file is a TorchScript archive.
        ValueError: If the file is damaged, or, as other errors of the kind, none of torch.
    """
    restore = _restore_by(map_location)
    length = file.seek(0, 2)
    file.seek(0)
    is_zip = file.read(4) == _ZIP_START
    file.seek(0)
    read = _load_archive if is_zip else _load_old_format
    return read(file, length, restore, (allowed or {}, own or {}))


def _restore_by(map_location: Any) -> Restore:
    def restore(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        if callable(map_location):
            moved = map_location(storage, location)
            if moved is not None:
                return moved
        elif isinstance(map_location, dict):
            location = map_location.get(location, location)
        elif map_location is not None:
            location = str(map_location)
        return torch.serialization.default_restore_location(storage, location)

    return restore


def _read_storage(file: IO[bytes], num_bytes: int) -> torch.UntypedStorage:
    content = torch.empty(num_bytes, dtype=torch.uint8)
    view = memoryview(content.numpy())  # type: ignore[arg-type]
    filled = 0
    while filled < num_bytes:
        count = file.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError('the file ends in a tensor')
        filled += count
    return content.untyped_storage()


def check_before_torch(file: IO[bytes]) -> None:
    """Check what torch's own reader believes: that a file is whole and takes no more memory.

    Args:
        file: A binary file that can be searched. It is left at its start.

    Raises:
        pickle.UnpicklingError: If a pickle names ``bytearray``, which makes one of any length.
        RuntimeError: If it is a TorchScript archive.
        ValueError: If a record of an archive is compressed, larger than the file or damaged.
    """
    length = file.seek(0, 2)
    file.seek(0)
    if file.read(4) == _ZIP_START:
        with zipfile.ZipFile(file) as archive:
            records = _checked_records(archive, length)
            if damaged := archive.testzip():
                raise ValueError(f'the record {damaged} is damaged')
            with archive.open(records['data.pkl']) as content:
                _refuse_bytearrays(content)
    else:
        file.seek(0)
        # Three pickles about the format come before that of the content.
        with suppress(MemoryError, ValueError):  # torch says what is wrong
            for _ in range(4):
                _refuse_bytearrays(file)
    file.seek(0)


def _refuse_bytearrays(content: IO[bytes]) -> None:
    for operation, argument, _ in pickletools.genops(content):
        if operation.name == 'GLOBAL' and str(argument).endswith(' bytearray'):
            raise _refuse('builtins.bytearray')


def _checked_records(archive: zipfile.ZipFile, length: int) -> dict[str, zipfile.ZipInfo]:
    records = {info.filename.partition('/')[2]: info for info in archive.infolist()}
    if 'constants.pkl' in records:
        raise RuntimeError('TorchScript archives hold programs and are not read')
    for info in records.values():
        # What is not compressed cannot be larger than the file.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > length:
            raise ValueError(f'the record {info.filename} is compressed or too large')
    return records


def _load_archive(file: IO[bytes], length: int, restore: Restore, allowed: Allowed) -> Any:
    with zipfile.ZipFile(file) as archive:
        records = _checked_records(archive, length)
        if 'byteorder' in records and archive.read(records['byteorder']) != sys.byteorder.encode():
            raise ValueError('it was written on a machine of another byte order')
        read: dict[tuple[str, str], torch.UntypedStorage] = {}

        def storage(dtype: torch.dtype, key: str, location: str, size: int) -> Storage:
            record = records[f'data/{key}']
            if record.file_size != size * dtype.itemsize:
                raise ValueError(f'the record {record.filename} does not fit its storage')
            if (key, location) not in read:
                with archive.open(record) as content:
                    untyped = _read_storage(content, record.file_size)
                read[key, location] = restore(untyped, location)
            return Storage(read[key, location], dtype, size)

        with archive.open(records['data.pkl']) as content:
            return Unpickler(content, *allowed, storage).load()


def _load_old_format(file: IO[bytes], length: int, restore: Restore, allowed: Allowed) -> Any:
    if Unpickler(file, {}, {}).load() != torch.serialization.MAGIC_NUMBER:
        raise ValueError('no file of torch.save')
    if Unpickler(file, {}, {}).load() != torch.serialization.PROTOCOL_VERSION:
        raise ValueError('an unknown version of the format')
    if not Unpickler(file, {}, {}).load()['little_endian'] == (sys.byteorder == 'little'):
        raise ValueError('it was written on a machine of another byte order')
    # The content of the storages follows what is made of them: it is filled in afterwards.
    made: dict[str, tuple[torch.UntypedStorage, torch.UntypedStorage, int]] = {}
    total = 0

    def storage(dtype: torch.dtype, key: str, location: str, size: int) -> Storage:
        nonlocal total
        num_bytes = size * dtype.itemsize
        if key not in made:
            total += num_bytes
            if total > length:
                raise EOFError('the file ends in a tensor')
            host = torch.UntypedStorage(num_bytes)
            made[key] = host, restore(host, location), size
        if len(made[key][0]) != num_bytes:
            raise ValueError(f'the storage {key} is named in two sizes')
        return Storage(made[key][1], dtype, size)

    found = Unpickler(file, *allowed, storage).load()
    for key in Unpickler(file, {}, {}).load():
        host, moved, size = made[key]
        if struct.unpack('<q', file.read(8))[0] != size:
            raise ValueError(f'the storage {key} has another size')
        host.copy_(_read_storage(file, len(host)))
        if moved is not host:
            moved.copy_(host)
    return found
