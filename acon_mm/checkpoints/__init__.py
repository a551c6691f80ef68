"""Checkpoints: reading them safely, writing them whole, fitting a network, the authors' layout."""

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from .reading import load_from_local, safe_globals
from .remote import REMOTE_LOADERS
from .state_dict import state_dict_of
from .writing import save_whole

__all__ = ['load_from_local', 'register_safe_loading', 'save_whole', 'state_dict_of']


def register_safe_loading() -> None:
    """Make mmengine read every checkpoint by the allow-list; calling it again changes nothing.

    This holds for every way by which mmengine reads one: ``--resume``, ``load_from``,
    ``init_cfg=dict(type='Pretrained')``, ``tools/test.py``.
    """
    torch.serialization.add_safe_globals([(obj, name) for name, obj in safe_globals().items()])
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    for loader, prefixes in REMOTE_LOADERS.items():
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
