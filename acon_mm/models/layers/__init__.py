"""Parts that several backbones share."""

from .checkpoint_block import checkpoint_block
from .conv import ConvNormAct
from .init import draw_authors_weights
from .se import build_se

__all__ = ['ConvNormAct', 'build_se', 'checkpoint_block', 'draw_authors_weights']
