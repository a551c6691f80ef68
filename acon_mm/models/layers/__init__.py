"""Parts that several backbones share."""

from .conv import ConvNormAct
from .init import draw_authors_weights
from .recompute import recompute
from .se import build_se

__all__ = ['ConvNormAct', 'build_se', 'draw_authors_weights', 'recompute']
