"""Random images and labels in the size that a config trains with."""

from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor

from acon_mm.errors import UserError
from acon_mm.registry import type_name


def training_size(cfg: Config) -> tuple[tuple[int, int], str]:
    """Find the size of the images that a config trains with.

    Args:
        cfg: The config of a training.

    Returns:
        Height and width, before the data preprocessor pads them, and the config key that they
        are from. A ``scale`` with ``keep_ratio`` is an upper bound.

    Raises:
        UserError: If the config gives no size.
    """
    size = (cfg.model.get('data_preprocessor') or {}).get('size')
    if size:
        return _pair(size), 'data_preprocessor.size'
    for transform in reversed(cfg.train_dataloader.dataset.get('pipeline', [])):
        # OpenMMLab writes the size of a crop as (height, width), a scale as (width, height).
        for key in ('crop_size', 'scale'):
            if key in transform:
                first, second = _pair(transform[key])
                size = (first, second) if key == 'crop_size' else (second, first)
                return size, f'{type_name(transform.type)}.{key}'
    raise UserError(
        f'config {cfg.filename} has no data_preprocessor.size and no transform with a crop_size '
        'or a scale in its training pipeline; give the size of the images as --shape HEIGHT WIDTH'
    )


def random_batch(scope: str, size: tuple[int, int], images: int) -> dict[str, list]:
    """Make a batch as the data loader gives it to the data preprocessor.

    Args:
        scope: The library: ``'mmpretrain'``, ``'mmdet'`` or ``'mmseg'``.
        size: Height and width of the images.
        images: The number of images.

    Returns:
        ``inputs``, tensors of shape ``(3, height, width)``, and ``data_samples`` with labels: a
        class, eight boxes or a map of classes.

    Raises:
        UserError: If the library is none of the three.
    """
    makers = {'mmpretrain': _class, 'mmdet': _boxes, 'mmseg': _class_map}
    if scope not in makers:
        raise UserError(f'default_scope={scope!r} is unknown; use one of {", ".join(makers)}')
    dice = torch.Generator().manual_seed(0)
    inputs: list[Tensor] = [
        torch.randint(256, (3, *size), dtype=torch.uint8, generator=dice) for _ in range(images)
    ]
    samples = [makers[scope](size) for _ in range(images)]
    for sample in samples:
        sample.set_metainfo(dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    return {'inputs': inputs, 'data_samples': samples}


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


# The libraries are imported where they are needed: a classifier's plan does without the others.
def _class(size: tuple[int, int]) -> BaseDataElement:
    from mmpretrain.structures import DataSample

    return DataSample().set_gt_label(0)


def _boxes(size: tuple[int, int]) -> BaseDataElement:
    from mmdet.structures import DetDataSample

    height, width = size
    corners = torch.linspace(0, 0.7, 8)[:, None] * torch.tensor([width, height])
    boxes = torch.cat([corners, corners + torch.tensor([0.3 * width, 0.3 * height])], 1)
    instances = InstanceData(bboxes=boxes, labels=torch.zeros(8, dtype=torch.long))
    return DetDataSample(gt_instances=instances)


def _class_map(size: tuple[int, int]) -> BaseDataElement:
    from mmseg.structures import SegDataSample

    classes = torch.zeros((1, *size), dtype=torch.long)
    return SegDataSample(gt_sem_seg=PixelData(data=classes))
