"""ACON activations, and backbones that use them, for mmpretrain, mmdet and mmsegmentation."""

from acon_mm._stack import check_stack, has_openmmlab

check_stack()

# The stack is checked first: what follows imports mmengine and torch.
from acon_mm._mim import announce_configs, config_path  # noqa: E402
from acon_mm.version import __version__  # noqa: E402

if has_openmmlab():
    from acon_mm.checkpoints import register_safe_loading

    announce_configs()
    register_safe_loading()

__all__ = ['__version__', 'config_path']
