"""The ACON family as modules."""

from .acon import AconA, AconB, AconC
from .build import build_activation
from .meta_acon import MetaAcon

__all__ = ['AconA', 'AconB', 'AconC', 'MetaAcon', 'build_activation']
