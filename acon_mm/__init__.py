"""ACON activations, and backbones that use them, for mmpretrain, mmdet and mmsegmentation."""

from importlib import import_module
from typing import Any

from acon_mm._stack import check_stack, has_openmmlab

check_stack()

# The stack is checked first: what follows imports mmengine and torch.
from acon_mm._mim import announce_configs, config_path  # noqa: E402
from acon_mm.version import __version__  # noqa: E402

if has_openmmlab():
    from acon_mm.checkpoints import register_safe_loading

    announce_configs()
    register_safe_loading()

__all__ = ['__version__', 'config_path', 'replace_activations']


def __getattr__(name: str) -> Any:
    if name == 'replace_activations':  # on demand: it imports all models
        return import_module('acon_mm.models').replace_activations
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
