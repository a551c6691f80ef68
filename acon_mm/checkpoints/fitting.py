"""Refuse a pretrained checkpoint that does not fit, before any of it is loaded.

mmengine's ``init_cfg=dict(type='Pretrained')`` loads what has a name and a shape in common, logs
the rest and continues; a run then trains for days from a backbone that is half random. The rule
here:

- every tensor of the checkpoint's backbone is in the backbone, with the same shape;
- every tensor of the backbone is in the checkpoint, except for parameters of activations, which
  then keep their initial values, with a warning.

So weights of the same network with ReLU start an ACON network, those of ACON-A one with ACON-C;
the other way round, and between depths, widths and reductions, a checkpoint is refused.
"""

import logging
from collections.abc import Mapping, Sequence

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from acon_mm.errors import PretrainedMismatchError
from acon_mm.registry import type_name

from .state_dict import state_dict_of

_SHOWN = 3


def check_pretrained(backbone: BaseModule, activation: type[nn.Module]) -> None:
    """Check that the checkpoint of a backbone's ``init_cfg`` fits, if it names one.

    Call it before ``init_weights``. Where only parameters of activations are missing, a warning
    names these activations.

    Args:
        backbone: The backbone with the ``init_cfg``.
        activation: The class of the activations whose parameters the checkpoint may lack.

    Raises:
        PretrainedMismatchError: If the checkpoint does not fit by the rule of this module. One
            sentence, with the keys that are missing, unexpected or of another shape: the first
            three of each kind and how many there are.
    """
    cfgs = backbone.init_cfg or ()
    for cfg in [cfgs] if isinstance(cfgs, Mapping) else cfgs:
        if type_name(cfg.get('type')) in ('Pretrained', 'PretrainedInit'):
            state = _backbone_state(backbone, cfg['checkpoint'], cfg.get('prefix'))
            _compare(backbone, state, cfg['checkpoint'], activation)


def _backbone_state(backbone: nn.Module, path: str, prefix: str | None) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that mmengine would load, by their names in it."""
    content = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    state_dict_of(content, path)  # refuses what holds none
    state = content.get('state_dict', content)
    if prefix is not None:
        start = prefix if prefix.endswith('.') else f'{prefix}.'
        state = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
        if not state:
            raise PretrainedMismatchError(
                f'init_cfg has the prefix {prefix!r}, but no key of {str(path)!r} starts with it; '
                'give the prefix of the backbone, or none if the file holds only a backbone'
            )
        return state
    state = {k.removeprefix('module.'): v for k, v in state.items()}
    # Everything else in the file, such as a classifier, is another part of that model.
    children = {name for name, _ in backbone.named_children()}
    own = {k: v for k, v in state.items() if k.partition('.')[0] in children}
    if not own and any(k.startswith('backbone.') for k in state):
        raise PretrainedMismatchError(
            f'init_cfg names {str(path)!r}, whose keys of the backbone start with '
            "'backbone.', but no prefix; add prefix='backbone.' to init_cfg"
        )
    return own


def _compare(
    backbone: nn.Module, state: Mapping[str, Tensor], path: str, activation: type[nn.Module]
) -> None:
    expected = backbone.state_dict()
    # mmengine does not miss it either: a counter that old checkpoints lack.
    missing = [k for k in expected if k not in state and not k.endswith('num_batches_tracked')]
    own = _activation_keys(backbone, activation)
    found = {
        'missing': [k for k in missing if k not in own],
        'unexpected': [k for k in state if k not in expected],
        'of another shape': [
            f'{k} ({tuple(state[k].shape)} instead of {tuple(expected[k].shape)})'
            for k in expected
            if k in state and state[k].shape != expected[k].shape
        ],
    }
    wrong = [f'{kind}: {_listed(keys)}' for kind, keys in found.items() if keys]
    if wrong:
        raise PretrainedMismatchError(
            f'init_cfg names {str(path)!r}, which does not fit {type(backbone).__name__} '
            f'({"; ".join(wrong)}); give a checkpoint of the same network with the same '
            'activation or with ReLU'
        )
    if missing:
        names = list(dict.fromkeys(own[k] for k in missing))
        print_log(
            f'{str(path)!r} lacks {len(missing)} parameters of {len(names)} '
            f'activations, which keep their initial values: {", ".join(names)}',
            logger='current',
            level=logging.WARNING,
        )


def _activation_keys(backbone: nn.Module, activation: type[nn.Module]) -> dict[str, str]:
    """Return the names of all parameters and buffers of activations, with the activation's."""
    return {
        f'{name}.{key}': name
        for name, module in backbone.named_modules()
        if isinstance(module, activation)
        for key in module.state_dict()
    }


def _listed(keys: Sequence[str]) -> str:
    more = len(keys) - _SHOWN
    return ', '.join(keys[:_SHOWN]) + (f' and {more} more' if more > 0 else '')
