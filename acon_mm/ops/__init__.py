"""The numbers of ACON: pure torch, nothing of OpenMMLab."""

from .acon import acon
from .backends import backend_report
from .formula import acon_grad, acon_grad_bounds, smooth_maximum
from .pooling import spatial_mean

__all__ = [
    'acon',
    'acon_grad',
    'acon_grad_bounds',
    'backend_report',
    'smooth_maximum',
    'spatial_mean',
]
