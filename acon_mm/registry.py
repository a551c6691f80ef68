"""Registries of acon_mm, children of mmengine's roots.

Every registry names the modules that fill it (``locations``), so a config of mmpretrain, mmdet or
mmsegmentation finds ``type='acon_mm.X'`` without ``custom_imports``: mmengine imports this module
for the scope, then the locations.
"""

from typing import Any

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

SCOPE = 'acon_mm'

MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE, locations=['acon_mm.models'])
MODEL_WRAPPERS = Registry(
    'model_wrapper',
    parent=MMENGINE_MODEL_WRAPPERS,
    scope=SCOPE,
    locations=['acon_mm.engine.model_wrapper'],
)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope=SCOPE, locations=['acon_mm.engine.hooks'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope=SCOPE, locations=['acon_mm.engine.loops'])


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
