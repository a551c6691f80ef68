"""Registries of acon_mm, children of mmengine's roots.

Every registry names the modules that fill it (``locations``), so a config of mmpretrain, mmdet or
mmsegmentation finds ``type='acon_mm.X'`` without ``custom_imports``: mmengine imports this module
for the scope, then the locations. Where torch is alone, ``MODELS`` is a :class:`TorchModels`.
"""

from typing import Any

from torch import nn

from acon_mm._stack import has_openmmlab

SCOPE = 'acon_mm'

# What mmcv calls torch's norms.
_NORMS = {
    'BN': nn.BatchNorm2d,
    'BN1d': nn.BatchNorm1d,
    'BN2d': nn.BatchNorm2d,
    'BN3d': nn.BatchNorm3d,
    'SyncBN': nn.SyncBatchNorm,
    'GN': nn.GroupNorm,
    'LN': nn.LayerNorm,
    'IN': nn.InstanceNorm2d,
}


class TorchModels:
    """Stand in for a registry of mmengine: the classes of acon_mm, and those of ``torch.nn``."""

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}

    def register_module(self, module: type | None = None) -> Any:
        """Register a class under its name; without one, return a decorator that does."""
        if module is None:
            return self.register_module
        self._classes[module.__name__] = module
        return module

    def get(self, name: str) -> type | None:
        """Return the class of a name, with or without a scope; None if there is none.

        Examples:
            >>> TorchModels().get('BN').__name__, TorchModels().get('mmcv.SiLU').__name__
            ('BatchNorm2d', 'SiLU')
        """
        short = name.rpartition('.')[2]
        found = self._classes.get(short) or _NORMS.get(short) or getattr(nn, short, None)
        return found if isinstance(found, type) and issubclass(found, nn.Module) else None


MODELS: Any
MODEL_WRAPPERS: Any
HOOKS: Any
LOOPS: Any
DATASETS: Any
if has_openmmlab():
    from mmengine.registry import DATASETS as MMENGINE_DATASETS
    from mmengine.registry import HOOKS as MMENGINE_HOOKS
    from mmengine.registry import LOOPS as MMENGINE_LOOPS
    from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
    from mmengine.registry import MODELS as MMENGINE_MODELS
    from mmengine.registry import Registry

    MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE, locations=['acon_mm.models'])
    MODEL_WRAPPERS = Registry(
        'model_wrapper',
        parent=MMENGINE_MODEL_WRAPPERS,
        scope=SCOPE,
        locations=['acon_mm.engine.model_wrapper'],
    )
    HOOKS = Registry(
        'hook', parent=MMENGINE_HOOKS, scope=SCOPE, locations=['acon_mm.engine.hooks']
    )
    LOOPS = Registry(
        'loop', parent=MMENGINE_LOOPS, scope=SCOPE, locations=['acon_mm.engine.loops']
    )
    DATASETS = Registry(
        'dataset',
        parent=MMENGINE_DATASETS,
        scope=SCOPE,
        locations=['acon_mm.datasets.digit_segmentation'],
    )
else:
    MODELS = TorchModels()


def type_name(value: Any) -> str:
    """Return the name of a class, whichever way a config's ``type`` gives it.

    Args:
        value: A string with or without a scope (``'mmdet.CocoDataset'``), or the class itself, as
            in configs of mmengine's new style. None means that there is no ``type``.

    Returns:
        The name without scope and module; an empty string for None.

    Examples:
        >>> type_name('mmengine.OptimWrapper'), type_name(dict)
        ('OptimWrapper', 'dict')
    """
    if value is None:
        return ''
    return str(getattr(value, '__name__', value)).rpartition('.')[-1]
