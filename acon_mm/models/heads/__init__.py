"""Heads that mmpretrain lacks."""

from acon_mm._stack import needs_openmmlab

with needs_openmmlab(__name__):
    from .dropout_linear import DropoutLinearClsHead

__all__ = ['DropoutLinearClsHead']
