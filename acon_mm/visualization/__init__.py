"""The paper's figures, drawn from the code."""

from .curves import draw_curves

__all__ = ['draw_curves']
