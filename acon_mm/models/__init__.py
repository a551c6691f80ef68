"""Activations, backbones and heads of acon_mm; importing this module registers them.

The classifiers are registered with mmpretrain's hub of models as well.
"""

from acon_mm._mim import announce_models

from .activations import AconA, AconB, AconC, AconFReLU, MetaAcon, build_activation
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
