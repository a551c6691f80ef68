"""Name and build the models that the metafiles list."""

import os
from difflib import get_close_matches
from fnmatch import fnmatch
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from acon_mm._mim import MIM_ROOT, model_entries
from acon_mm.checkpoints.state_dict import state_dict_of
from acon_mm.errors import UserError

from .config import load_config


def list_models(pattern: str | None = None) -> list[str]:
    """Return the sorted names of all models, or of those that match a pattern.

    Args:
        pattern: A pattern with the wildcards of a shell, such as ``'shufflenetv2_0.5x_*'``.

    Examples:
        >>> list_models('resnet18_acon?')
        ['resnet18_aconb', 'resnet18_aconc']
    """
    return sorted(name for name in model_entries() if fnmatch(name, pattern or '*'))


def get_model(name: str, pretrained: str | os.PathLike | None = None, **kwargs: Any) -> BaseModel:
    """Build a model, on the CPU and in eval mode.

    Without a checkpoint the weights are those of a newly built model; ``model.init_weights()``
    then draws them as a training run would.

    Args:
        name: One of :func:`list_models`.
        pretrained: The checkpoint to load, a path or a URL. It has to fit the model key by key;
            a prefix ``module.`` of all its keys is left out.
        **kwargs: Values to change in the config's ``model``, such as
            ``backbone=dict(out_indices=(1, 2, 3))``.

    Returns:
        The model of mmpretrain, mmdet or mmsegmentation. ``model.cfg`` is its config.

    Raises:
        UserError: If there is no model of that name, an argument does not fit it, or the
            checkpoint is not there or of another model.

    Examples:
        >>> import torch
        >>> model = get_model('shufflenetv2_0.5x_metaacon')
        >>> model(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 1000])
    """
    if isinstance(pretrained, bool):
        raise UserError(
            f'pretrained={pretrained} of get_model must be the path of a checkpoint or None; '
            'tools/model_converters/official_to_acon_mm.py makes one from the weights of the '
            'authors of ACON'
        )
    entries = model_entries()
    if name not in entries:
        near = get_close_matches(name, entries, n=3, cutoff=0.5)
        hint = f'did you mean {" or ".join(map(repr, near))}?' if near else 'see list_models()'
        raise UserError(f'acon_mm has no model {name!r}; {hint}')
    cfg = load_config(MIM_ROOT / entries[name]['Config'], {'model': kwargs} if kwargs else None)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    model.cfg = cfg
    if pretrained is not None:
        _load(model, name, os.fspath(pretrained))
    return model.eval()


def _load(model: nn.Module, name: str, path: str) -> None:
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except FileNotFoundError as error:
        raise UserError(f'pretrained is {path!r}, which cannot be read: {error}') from error
    state = state_dict_of(checkpoint, path)
    expected = model.state_dict()
    for key in (*expected, *state):
        shapes = [tuple(s[key].shape) if key in s else 'absent' for s in (expected, state)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f'pretrained={path!r} is no checkpoint of {name}: {key} is {shapes[1]} in it and '
                f'{shapes[0]} in the model; load a checkpoint of this model'
            )
    model.load_state_dict(state)
