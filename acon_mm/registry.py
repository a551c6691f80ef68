"""Registries of acon_mm, children of mmengine's roots.

Every registry names the modules that fill it (``locations``), so a config of mmpretrain, mmdet or
mmsegmentation finds ``type='acon_mm.X'`` without ``custom_imports``: mmengine imports this module
for the scope, then the locations.
"""

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
