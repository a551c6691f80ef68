"""The numbers of ACON: pure torch, nothing of OpenMMLab."""

from .acon import acon
from .backends import backend_report
from .formula import acon_grad, acon_grad_bounds, smooth_maximum
from .maximum import smooth_maximum_of_two
from .pixel_wise import pixel_wise_acon
from .pooling import spatial_mean

__all__ = [
    'acon',
    'acon_grad',
    'acon_grad_bounds',
    'backend_report',
    'pixel_wise_acon',
    'smooth_maximum',
    'smooth_maximum_of_two',
    'spatial_mean',
]
