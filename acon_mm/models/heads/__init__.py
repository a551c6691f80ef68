"""Heads that mmpretrain lacks."""

from .dropout_linear import DropoutLinearClsHead

__all__ = ['DropoutLinearClsHead']
