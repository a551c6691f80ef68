"""Put ACON into networks that somebody else has written."""

from .builder import build_with_replaced_activations
from .replace import replace_activations

__all__ = ['build_with_replaced_activations', 'replace_activations']
