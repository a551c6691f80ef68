"""The ACON family as modules."""

from . import torch_activations
from .acon import AconA, AconB, AconC
from .acon_frelu import AconFReLU
from .build import build_activation
from .meta_acon import MetaAcon

__all__ = [
    'AconA',
    'AconB',
    'AconC',
    'AconFReLU',
    'MetaAcon',
    'build_activation',
    'torch_activations',
]
