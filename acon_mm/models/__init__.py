"""Activations and backbones of acon_mm; importing this module registers them."""

from .activations import AconA, AconB, AconC, MetaAcon, build_activation
from .backbones import AconResNet

__all__ = ['AconA', 'AconB', 'AconC', 'AconResNet', 'MetaAcon', 'build_activation']
