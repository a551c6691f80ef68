"""Checkpoints: reading them safely, writing them whole, fitting a network, the authors' layout."""

import os

from mmengine.runner.checkpoint import CheckpointLoader

from .reading import add_safe_globals, load_from_local
from .remote import REMOTE_LOADERS
from .state_dict import state_dict_of
from .writing import save_whole

__all__ = [
    'add_safe_globals',
    'load_from_local',
    'register_safe_loading',
    'save_whole',
    'state_dict_of',
]

SAFE_LOADING_VARIABLE = 'ACON_MM_SAFE_LOADING'
"""The environment variable that, set to 0, leaves mmengine's readers of checkpoints alone."""


def register_safe_loading() -> None:
    """Make mmengine read every checkpoint by the allow-list; calling it again changes nothing.

    This holds for every way by which mmengine reads one: ``--resume``, ``load_from``,
    ``init_cfg=dict(type='Pretrained')``, ``tools/test.py``. What calls ``torch.load`` itself is
    not affected. With ``ACON_MM_SAFE_LOADING=0`` in the environment nothing is done.
    """
    if os.environ.get(SAFE_LOADING_VARIABLE) == '0':
        return
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    for loader, prefixes in REMOTE_LOADERS.items():
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
