"""Inputs for what the libraries of OpenMMLab register: backbones, necks, heads, whole models."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

SIZES = (64, 224, 256)
"""The heights and widths of images that are tried, in this order."""


def example_input(module: nn.Module, cfg: Mapping, size: int) -> Any:
    """Make an input of a module from the channels that it or its config says it takes.

    Args:
        module: A backbone, which takes an image; a neck or a head, which take a map for each of
            its ``in_channels``; or a model, which takes an image.
        cfg: The config of the module.
        size: The height and width of the image, and of the first of several maps.

    Returns:
        A tensor of zeros and ones or a list of such tensors, of two samples.
    """
    channels = cfg.get('in_channels', _default_of(type(module), 'in_channels', 3))
    indices = getattr(module, 'in_index', None)
    if isinstance(module, BaseModel):
        return _map(3, size)
    if indices is not None:  # a head of mmsegmentation, which picks some of the maps
        indices, widths = _as_list(indices), _as_list(channels)
        of_index = dict(zip(indices, widths, strict=False))
        return _pyramid([of_index.get(i, widths[0]) for i in range(max(indices) + 1)], size)
    if isinstance(channels, Sequence):
        return _pyramid(channels, size)
    levels = _levels(module)
    if levels:
        return _pyramid([channels] * levels, size)
    return _map(channels, size)


def _default_of(cls: type, argument: str, otherwise: int) -> Any:
    parameter = inspect.signature(cls).parameters.get(argument)
    return (
        otherwise
        if parameter is None or parameter.default is parameter.empty
        else parameter.default
    )


def shaped_input(shape: Sequence) -> Any:
    """Make an input of given shapes, without the dimension of the samples.

    Args:
        shape: A shape such as ``(3, 224, 224)``, or a list of shapes for a list of maps.
    """
    if isinstance(shape[0], Sequence):
        return [torch.rand(2, *part) for part in shape]
    return torch.rand(2, *shape)


def forward_of(module: nn.Module) -> Callable[[Any], Any]:
    """Return what runs a module on an input, losses and post-processing left out."""
    if not isinstance(module, BaseModel):
        return module
    segmentor_heads = [
        head
        for name in ('decode_head', 'auxiliary_head')
        for head in _as_list(getattr(module, name, None) or [])
    ]

    def forward(x: Tensor) -> None:
        if segmentor_heads:
            features = module.extract_feat(x)
            output = None
            for head in segmentor_heads:
                output = _run_head(head, features, output)
        elif 'mmdet' in sys.modules and _is_detector(module):
            module(x, _detection_samples(x), mode='tensor')
        else:
            module(x, mode='tensor')

    return forward


def _run_head(head: nn.Module, features: Any, output: Any) -> Any:
    """Run a head; those of a cascade take the output of the one before as well."""
    if type(head).__mro__[1].__name__ == 'BaseCascadeDecodeHead':
        return head(features, output)
    return head(features)


def _is_detector(module: nn.Module) -> bool:
    from mmdet.models.detectors.base import BaseDetector

    return isinstance(module, BaseDetector)


def _detection_samples(x: Tensor) -> list:
    from mmdet.structures import DetDataSample

    size = tuple(x.shape[2:])
    meta = dict(
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
    )
    return [DetDataSample(metainfo=meta) for _ in x]


def _levels(module: nn.Module) -> int:
    """Return the number of maps that a head of mmdetection takes, 0 if it is none."""
    for owner in (getattr(module, 'prior_generator', None), module):
        strides = getattr(owner, 'strides', None)
        if strides is not None and hasattr(module, 'loss_by_feat'):
            return len(strides)
    return 1 if hasattr(module, 'loss_by_feat') else 0


def _pyramid(channels: Sequence[int], size: int) -> list[Tensor]:
    return [_map(width, max(1, size >> i)) for i, width in enumerate(channels)]


def _map(channels: int, size: int) -> Tensor:
    return torch.rand(2, channels, size, size)


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple, nn.ModuleList)) else [value]
