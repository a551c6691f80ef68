"""What the scripts in ``tools/`` do, as functions, and the models by their names."""

from acon_mm._stack import needs_openmmlab

with needs_openmmlab(__name__):
    from .inference import inference
    from .models import get_model, list_models
    from .testing import test
    from .training import train

__all__ = ['get_model', 'inference', 'list_models', 'test', 'train']
