"""Hooks that any config of the OpenMMLab libraries can name."""

from .atomic_checkpoint import AtomicCheckpointHook

__all__ = ['AtomicCheckpointHook']
