"""Checkpoints: reading them safely, writing them whole, fitting a network, the authors' layout."""

from .reading import load_from_local, register_safe_loading
from .state_dict import state_dict_of
from .writing import save_whole

__all__ = ['load_from_local', 'register_safe_loading', 'save_whole', 'state_dict_of']
