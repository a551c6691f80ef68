"""Name and build the models that the metafiles list."""

import os
from fnmatch import fnmatch
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from acon_mm._mim import config_path, named_configs
from acon_mm.checkpoints.state_dict import state_dict_of
from acon_mm.errors import UserError

from .config import load_config, require_keys


def list_models(pattern: str | None = None) -> list[str]:
    """Return the sorted names of all models, or of those that match a pattern.

    Args:
        pattern: A pattern with the wildcards of a shell, such as ``'shufflenetv2_0.5x_*'``.

    Examples:
        >>> list_models('resnet18_acon?')
        ['resnet18_aconb', 'resnet18_aconc']
    """
    return sorted(name for name in named_configs() if fnmatch(name, pattern or '*'))


def get_model(
    model: str | os.PathLike | Config,
    pretrained: str | os.PathLike | None = None,
    device: str | torch.device = 'cpu',
    **kwargs: Any,
) -> BaseModel:
    """Build a model in eval mode.

    Without a checkpoint the weights are those of a newly built model; ``model.init_weights()``
    then draws them as a training run would.

    Args:
        model: One of :func:`list_models`, the path of a config, a config of a package such as
            ``'acon_mm::detection/retinanet_r50_metaacon.py'``, or a config.
        pretrained: The checkpoint to load, a path or a URL. It has to fit the model key by key;
            a prefix ``module.`` of all its keys is left out.
        device: Where the model goes.
        **kwargs: Values to change in the config's ``model``, such as
            ``backbone=dict(out_indices=(1, 2, 3))``.

    Returns:
        The model of mmpretrain, mmdet or mmsegmentation, which the inferencers and functions of
        these libraries accept. ``model.cfg`` is its config, ``model.dataset_meta`` has the names
        of the classes: those of the checkpoint, else those of the config's test data.

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
    cfg = load_config(_find(model), {'model': kwargs} if kwargs else None)
    require_keys(cfg, 'model', 'default_scope')
    if cfg.get('data_preprocessor'):  # a runner gives it to the model in the same way
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        network = MODELS.build(cfg.model)
        meta = _dataset_meta(cfg)
    if pretrained is not None:
        meta |= _load(network, _name(model), os.fspath(pretrained))
    network.cfg = network._config = cfg  # mmpretrain's names have the underscore
    network.dataset_meta = network._dataset_meta = meta
    return network.to(device).eval()


def _find(model: str | os.PathLike | Config) -> str | os.PathLike | Config:
    """Return the config of a model's name; anything else is a config already."""
    if not isinstance(model, str) or '::' in model or model.endswith('.py'):
        return model
    try:
        return config_path(model)
    except FileNotFoundError as error:
        raise UserError(f'{error}; list_models() has all names') from error


def _name(model: str | os.PathLike | Config) -> str:
    return str(model.filename if isinstance(model, Config) else os.fspath(model))


def _dataset_meta(cfg: Config) -> dict[str, Any]:
    """Return what the test data of a config says of its classes, without reading the data."""
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    known = DATASETS.get(dataset['type']) if 'type' in dataset else None
    return {**(getattr(known, 'METAINFO', None) or {}), **dataset.get('metainfo', {})}


def _load(model: nn.Module, name: str, path: str) -> dict[str, Any]:
    """Load a checkpoint that fits key by key and return what it says of the classes."""
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
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    return dict((meta or {}).get('dataset_meta') or {})
