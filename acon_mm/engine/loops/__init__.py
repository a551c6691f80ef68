"""Training loops that any config of the OpenMMLab libraries can name."""

from .epoch_based import EpochBasedTrainLoop
from .iter_based import IterBasedTrainLoop

__all__ = ['EpochBasedTrainLoop', 'IterBasedTrainLoop']
