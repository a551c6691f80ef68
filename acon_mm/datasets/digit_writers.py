"""Write scenes in the layouts of the three libraries: COCO, Cityscapes and ImageNet folders.

Every image is a PNG: the bytes of a JPEG, and what they decode to, depend on the codec's version.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from acon_mm.datasets.digit_scenes import Scene

CLASSES = tuple('0123456789')
CITY = 'digits'


def write_scenes(root: Path, split: str, scenes: Iterable[Scene]) -> None:
    """Write scenes of one split in COCO's and in Cityscapes' layout.

    COCO: ``images/<split>`` and ``annotations/instances_<split>.json``. Category ids are 1 … 10
    for the digits 0 … 9, as COCO starts at 1. ``area`` is the box's area. ``digit_sample`` is the
    row of scikit-learn's ``load_digits`` that a digit was drawn from.

    Cityscapes: ``leftImg8bit`` images and ``gtFine`` label maps of train ids, 0 … 9 for the digits
    and 10 for the background. :class:`.DigitSceneDataset` reads them.

    Args:
        root: The dataset's folder.
        split: ``'train'`` or ``'val'``.
        scenes: The scenes, written one after the other.
    """
    image_dir = root / 'images' / split
    city_dir, label_dir = (root / kind / split / CITY for kind in ('leftImg8bit', 'gtFine'))
    for folder in (image_dir, city_dir, label_dir, root / 'annotations'):
        folder.mkdir(parents=True, exist_ok=True)
    images: list[dict] = []
    annotations: list[dict] = []
    for number, scene in enumerate(scenes, 1):
        name, png = f'{number:06d}', encode_png(scene.image)
        (image_dir / f'{name}.png').write_bytes(png)
        (city_dir / f'{CITY}_{name}_leftImg8bit.png').write_bytes(png)
        labels = encode_png(scene.label_map)
        (label_dir / f'{CITY}_{name}_gtFine_labelTrainIds.png').write_bytes(labels)
        height, width = scene.image.shape[:2]
        images.append({'id': number, 'file_name': f'{name}.png', 'height': height, 'width': width})
        for digit in scene.digits:
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': number,
                    'category_id': digit.label + 1,
                    'bbox': list(digit.box),
                    'area': digit.box[2] * digit.box[3],
                    'iscrowd': 0,
                    'digit_sample': digit.sample,
                }
            )
    content = {
        'info': {'description': f'DigitScenes, {split}'},
        'images': images,
        'annotations': annotations,
        'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)],
    }
    (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


def write_crops(root: Path, split: str, crops: Iterable[Scene]) -> None:
    """Write scenes of one digit each as ``imagenet/<split>/<digit>/<number>_<sample>.png``.

    Args:
        root: The dataset's folder.
        split: ``'train'`` or ``'val'``.
        crops: The scenes. ``<sample>`` is the row of scikit-learn's ``load_digits`` that the
            digit was drawn from.
    """
    folder = root / 'imagenet' / split
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for number, crop in enumerate(crops, 1):
        (digit,) = crop.digits
        path = folder / CLASSES[digit.label] / f'{number:06d}_{digit.sample:04d}.png'
        path.write_bytes(encode_png(crop.image))


def encode_png(image: np.ndarray) -> bytes:
    """Return an image as PNG; the same pixels always give the same bytes."""
    # Level 1: ten times faster than the default for files 10 % larger.
    _, encoded = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return encoded.tobytes()
