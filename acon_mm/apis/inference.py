"""Predict pictures with a model of any of the three libraries."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement

from acon_mm.errors import UserError
from acon_mm.registry import type_name

Image = str | os.PathLike | np.ndarray

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def inference(model: BaseModel, images: Image | Sequence[Image]) -> list[BaseDataElement]:
    """Predict pictures, one after the other, so that no result depends on the other pictures.

    The pictures go through the test pipeline of the model's config.

    Args:
        model: A classifier, detector or segmentor of :func:`.get_model`.
        images: Paths of pictures or of folders, whose pictures are taken by their sorted paths, or
            arrays ``(H, W, 3)`` of uint8 in the order BGR, as OpenCV reads them; one or several.

    Returns:
        A data sample of the model's library for each picture: ``pred_label`` and ``pred_score``
        of a classifier, ``pred_instances`` of a detector in the pixels of the picture,
        ``pred_sem_seg`` of a segmentor in the size of the picture.

    Raises:
        UserError: If a file is no picture that can be read, a folder has none, or an array has
            another shape.
    """
    with DefaultScope.overwrite_default_scope(model.cfg.default_scope), torch.no_grad():
        return [model.test_step(batch)[0].cpu() for batch in batches(model, images)]


def batches(model: BaseModel, images: Image | Sequence[Image]) -> Iterator[dict[str, Any]]:
    """Yield each picture as a batch for ``model.test_step`` or ``model.data_preprocessor``.

    Args:
        model: Same as in :func:`inference`, as is the other.
        images: See there.

    Raises:
        UserError: As there.
    """
    if isinstance(images, str | os.PathLike | np.ndarray):
        images = [images]
    with DefaultScope.overwrite_default_scope(model.cfg.default_scope):
        pipeline = Compose(
            [
                step
                for step in model.cfg.test_dataloader.dataset.pipeline
                if type_name(step['type']) not in ('LoadImageFromFile', 'LoadAnnotations')
            ]
        )
    for number, image in enumerate(_all(images)):
        yield pseudo_collate([pipeline(_read(number, image))])


def files_in(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """Return the sorted files below a folder whose names end in one of the suffixes."""
    return sorted(path for path in folder.rglob('*') if path.suffix.lower() in suffixes)


def read_image(image: Image) -> np.ndarray:
    """Return a picture as an array ``(H, W, 3)`` of uint8 in the order BGR.

    Raises:
        UserError: If the file cannot be read or decoded, or an array is no picture.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f'a picture of shape {image.shape} and dtype {image.dtype} must have the shape '
                '(H, W, 3) and the dtype uint8'
            )
        return image
    path = os.fspath(image)
    try:
        array = mmcv.imread(path)
    except (OSError, ValueError) as error:
        raise UserError(f'picture {path!r} cannot be read: {error}') from error
    if array is None:
        raise UserError(f'picture {path!r} cannot be decoded; give a whole JPEG, PNG or BMP file')
    return array


def _all(images: Sequence[Image]) -> Iterator[Image]:
    for image in images:
        if isinstance(image, np.ndarray) or not Path(image).is_dir():
            yield image
            continue
        pictures = files_in(Path(image))
        if not pictures:
            raise UserError(
                f'folder {os.fspath(image)!r} has no pictures; their names end in one of '
                f'{", ".join(IMAGE_SUFFIXES)}'
            )
        yield from pictures


def _read(number: int, image: Image) -> dict[str, Any]:
    array = read_image(image)
    path = '' if isinstance(image, np.ndarray) else os.fspath(image)
    shape = array.shape[:2]
    data = {'img': array, 'img_path': path, 'img_id': number, 'ori_shape': shape}
    return data | {'img_shape': shape, 'height': shape[0], 'width': shape[1]}
