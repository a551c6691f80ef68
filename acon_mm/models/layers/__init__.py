"""Parts that several backbones share."""

from .conv import ConvNormAct
from .init import draw_authors_weights
from .norm_act import norm_act
from .recompute import recompute
from .se import build_se

__all__ = ['ConvNormAct', 'build_se', 'draw_authors_weights', 'norm_act', 'recompute']
