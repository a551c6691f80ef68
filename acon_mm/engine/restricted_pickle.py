"""An allow-listed ``torch.load`` for torch before 2.6, which has no named safe globals."""

import pickle
import types
from collections import Counter, OrderedDict
from typing import Any

import torch

# The functions and classes that torch itself writes into a checkpoint of tensors.
_TORCH_GLOBALS = {
    'torch._utils': (
        '_rebuild_tensor',
        '_rebuild_tensor_v2',
        '_rebuild_tensor_v3',
        '_rebuild_parameter',
        '_rebuild_parameter_with_state',
        '_rebuild_qtensor',
        '_rebuild_sparse_tensor',
    ),
    'torch._tensor': ('_rebuild_from_type_v2',),
    'torch.nn.parameter': ('Parameter',),
    'torch.serialization': ('_get_layout',),
    'torch': ('Tensor', 'Size', 'device'),
}
_BUILTINS = {'set': set, 'complex': complex, 'bytearray': bytearray}


def load(path: Any, map_location: Any, allowed: dict[str, Any]) -> Any:
    """Read a file of :func:`torch.save` that names nothing but torch's types and ``allowed``.

    Args:
        path: A path, or an open binary file.
        map_location: Same as in :func:`torch.load`.
        allowed: Further objects, by the full name that a pickle gives them.

    Returns:
        What was saved.

    Raises:
        pickle.UnpicklingError: If the file names anything else; it is not called.
    """
    return torch.load(
        path, map_location=map_location, pickle_module=_module(allowed), weights_only=False
    )


def _module(allowed: dict[str, Any]) -> types.ModuleType:
    """Return a stand-in for :mod:`pickle`, which torch takes its ``Unpickler`` from."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            # Protocol 2, which torch writes, spells the module as Python 2 did.
            module = 'builtins' if module == '__builtin__' else module
            full_name = f'{module}.{name}'
            if full_name in allowed:
                return allowed[full_name]
            found = _find_torch_global(module, name)
            if found is None:
                raise pickle.UnpicklingError(f'GLOBAL {full_name} is not an allowed global')
            return found

    restricted = types.ModuleType('restricted_pickle')
    restricted.Unpickler = Unpickler
    # torch passes the module's `load` the first records of the format before torch 1.6.
    restricted.load = lambda file, **kwargs: Unpickler(file, **kwargs).load()
    return restricted


def _find_torch_global(module: str, name: str) -> Any:
    if (module, name) == ('collections', 'OrderedDict'):
        return OrderedDict
    if (module, name) == ('collections', 'Counter'):
        return Counter
    if module == 'builtins':
        return _BUILTINS.get(name)
    if (module, name) == ('_codecs', 'encode'):  # how protocol 2 spells bytes
        return lambda text, encoding: str.encode(text, encoding)
    if name in _TORCH_GLOBALS.get(module, ()):
        return getattr(torch if module == 'torch' else _import(module), name, None)
    if module in ('torch', 'torch.storage'):
        found = getattr(_import(module), name, None)
        is_storage = isinstance(found, type) and name.endswith('Storage')
        return found if is_storage or isinstance(found, torch.dtype) else None
    return None


def _import(module: str) -> types.ModuleType:
    """Return a submodule of torch; all those listed above are loaded with torch itself."""
    found = torch
    for part in module.split('.')[1:]:
        found = getattr(found, part)
    return found
