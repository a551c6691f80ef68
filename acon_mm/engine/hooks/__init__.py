"""Hooks that any config of the OpenMMLab libraries can name."""

from .atomic_checkpoint import AtomicCheckpointHook
from .checkpoint_fit import CheckpointFitHook
from .health import HealthHook
from .preemption import PreemptionHook
from .switching_factor import SwitchingFactorHook

__all__ = [
    'AtomicCheckpointHook',
    'CheckpointFitHook',
    'HealthHook',
    'PreemptionHook',
    'SwitchingFactorHook',
]
