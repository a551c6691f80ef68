"""What the scripts in ``tools/`` do, as functions, and the models by their names."""

from .models import get_model, list_models
from .testing import test
from .training import train

__all__ = ['get_model', 'list_models', 'test', 'train']
