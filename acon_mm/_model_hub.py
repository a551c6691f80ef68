"""How ``mmpretrain.get_model('resnet50_metaacon')`` finds the classifiers of acon_mm.

mmpretrain has a function to register models of others, but ``import acon_mm`` should not import
all of mmpretrain to call it, and often happens first. A finder on ``sys.meta_path`` therefore
waits for the module with the hub and registers our models as soon as that has been imported.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

from acon_mm._model_index import MIM_ROOT, metafiles, model_entries

HUB = 'mmpretrain.apis.model'


def announce_models() -> None:
    """Let ``mmpretrain.get_model`` and ``mmpretrain.list_models`` know the classifiers here."""
    if HUB in sys.modules:
        _register(sys.modules[HUB])
    elif not any(isinstance(finder, _HubFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HubFinder())


def _register(hub: ModuleType) -> None:
    if any(map(hub.ModelHub.has, model_entries())):
        return
    for path in metafiles():
        if path.parent.name == 'classification':  # mmpretrain builds no detectors
            hub.ModelHub.register_model_index(path, config_prefix=MIM_ROOT)


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
