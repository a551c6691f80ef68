"""What surrounds a run: launching processes, reading checkpoints, checking the data first."""

from .checkpoint import CheckpointRefusedError, register_safe_loading
from .errors import UserError

__all__ = ['CheckpointRefusedError', 'UserError', 'register_safe_loading']
