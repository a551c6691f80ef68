"""Activations, backbones and heads of acon_mm; importing this module registers them.

The classifiers are registered with mmpretrain's hub of models as well. Where torch is alone, the
activations are all that there is.
"""

from typing import Any

from acon_mm._mim import announce_models
from acon_mm._stack import has_openmmlab, needs_openmmlab

from .activations import AconA, AconB, AconC, AconFReLU, MetaAcon, build_activation

if has_openmmlab():
    from .backbones import (
        AconMobileNetV1,
        AconMobileNetV2,
        AconResNet,
        AconSENet,
        AconShuffleNetV2,
        TFNet,
    )
    from .heads import DropoutLinearClsHead
    from .replacement import replace_activations

    announce_models()


def __getattr__(name: str) -> Any:
    """Say what is missing for a class that is here where OpenMMLab is."""
    if name in __all__:
        with needs_openmmlab(f'acon_mm.models.{name}'):
            from . import backbones, heads, replacement  # noqa: F401
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = [
    'AconA',
    'AconB',
    'AconC',
    'AconFReLU',
    'AconMobileNetV1',
    'AconMobileNetV2',
    'AconResNet',
    'AconSENet',
    'AconShuffleNetV2',
    'DropoutLinearClsHead',
    'MetaAcon',
    'TFNet',
    'build_activation',
    'replace_activations',
]
