"""What ``mmengine.hub.get_model('acon_mm::...')`` asks of a package."""

from importlib import import_module


def register_all_modules() -> None:
    """Register everything that a config can name as ``acon_mm.X``.

    Configs do not need it: the registries import what they hold when they are asked. mmengine's
    hub calls it before it builds a model.
    """
    import_module('acon_mm.models')
