"""Activations, backbones and heads of acon_mm; importing this module registers them."""

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
]
