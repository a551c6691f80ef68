"""The numbers of ACON: pure torch, nothing of OpenMMLab."""

from .acon import acon
from .formula import acon_grad, acon_grad_bounds, smooth_maximum

__all__ = ['acon', 'acon_grad', 'acon_grad_bounds', 'smooth_maximum']
