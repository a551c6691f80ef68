"""How ``mmpretrain.get_model('resnet50_metaacon')`` finds the classifiers of acon_mm.

mmpretrain has a function to register models of others, but ``import acon_mm`` should not import
all of mmpretrain to call it, and often happens first. A finder on ``sys.meta_path`` therefore
waits for the module with the hub and registers our models as soon as that has been imported.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

from acon_mm._model_index import MIM_ROOT, metafiles

HUB = 'mmpretrain.apis.model'

_registered: list[ModuleType] = []


def announce_models() -> None:
    """Let ``mmpretrain.get_model`` and ``mmpretrain.list_models`` know the classifiers here."""
    if HUB in sys.modules:
        _register(sys.modules[HUB])
    elif not any(isinstance(finder, _HubFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HubFinder())


def _register(hub: ModuleType) -> None:
    if hub in _registered:
        return
    _registered.append(hub)
    # mmpretrain is being imported, and has to remain so whatever is wrong with our files.
    try:
        paths = metafiles()
    except Exception as error:
        _warn('the models of acon_mm', error)
        return
    for path in paths:
        if path.parent.name != 'classification':  # mmpretrain builds no detectors
            continue
        try:
            hub.ModelHub.register_model_index(path, config_prefix=MIM_ROOT)
        except Exception as error:
            _warn(f'some or all models of {path}', error)


def _warn(models: str, error: Exception) -> None:
    reason = ' '.join(str(error).split())
    warnings.warn(
        f'mmpretrain.get_model does not know {models}: {type(error).__name__}: {reason}; '
        'acon_mm.apis.get_model does not need mmpretrain for its list',
        stacklevel=3,
    )


class _HubLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _register(module)


class _HubFinder(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != HUB:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _HubLoader(spec.loader.name, spec.loader.path)
        return spec
