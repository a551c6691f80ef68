"""Write scenes in the layouts of the three libraries: COCO, Cityscapes and ImageNet folders.

Every image is a PNG: the bytes of a JPEG, and what they decode to, depend on the codec's version.
"""

import json
from pathlib import Path

import cv2
import numpy as np

from acon_mm.datasets.digit_scenes import Scene

CLASSES = tuple('0123456789')
CITY = 'digits'


class CocoWriter:
    """Write scenes of one split as ``images/<split>`` and ``annotations/instances_<split>.json``.

    Category ids are 1 … 10 for the digits 0 … 9, as COCO starts at 1. ``area`` is the box's area.
    ``digit_sample`` is the row of scikit-learn's ``load_digits`` that a digit was drawn from.

    Args:
        root: The dataset's folder.
        split: ``'train'`` or ``'val'``.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.split = split
        self.image_dir = root / 'images' / split
        self.annotation_file = root / 'annotations' / f'instances_{split}.json'
        self.images: list[dict] = []
        self.annotations: list[dict] = []
        self.image_dir.mkdir(parents=True)

    def add(self, scene: Scene) -> None:
        """Write one scene's image and note its digits."""
        image_id = len(self.images) + 1
        file_name = f'{image_id:06d}.png'
        write_png(self.image_dir / file_name, scene.image)
        height, width = scene.image.shape[:2]
        self.images.append(
            {'id': image_id, 'file_name': file_name, 'height': height, 'width': width}
        )
        for digit in scene.digits:
            self.annotations.append(
                {
                    'id': len(self.annotations) + 1,
                    'image_id': image_id,
                    'category_id': digit.label + 1,
                    'bbox': list(digit.box),
                    'area': digit.box[2] * digit.box[3],
                    'iscrowd': 0,
                    'digit_sample': digit.sample,
                }
            )

    def close(self) -> None:
        """Write the annotation file."""
        self.annotation_file.parent.mkdir(exist_ok=True)
        content = {
            'info': {'description': f'DigitScenes, {self.split}'},
            'images': self.images,
            'annotations': self.annotations,
            'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)],
        }
        self.annotation_file.write_text(json.dumps(content))


class CityscapesWriter:
    """Write scenes of one split as ``leftImg8bit`` images and ``gtFine`` label maps.

    A label map holds train ids: 0 … 9 for the digits and 10 for the background. mmseg's
    ``CityscapesDataset`` accepts no class names but Cityscapes' own, so a config reads this folder
    with ``metainfo=dict(classes=...)`` naming the first eleven of them: 'road' is the digit 0 and
    so on; the background, 10, is 'sky'.

    Args:
        root: The dataset's folder.
        split: ``'train'`` or ``'val'``.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.image_dir = root / 'leftImg8bit' / split / CITY
        self.label_dir = root / 'gtFine' / split / CITY
        self.count = 0
        self.image_dir.mkdir(parents=True)
        self.label_dir.mkdir(parents=True)

    def add(self, scene: Scene) -> None:
        """Write one scene's image and label map."""
        self.count += 1
        stem = f'{CITY}_{self.count:06d}'
        write_png(self.image_dir / f'{stem}_leftImg8bit.png', scene.image)
        write_png(self.label_dir / f'{stem}_gtFine_labelTrainIds.png', scene.label_map)


class ImageNetWriter:
    """Write crops of one split as ``imagenet/<split>/<digit>/<number>_<sample>.png``.

    ``<sample>`` is the row of scikit-learn's ``load_digits`` that the digit was drawn from.

    Args:
        root: The dataset's folder.
        split: ``'train'`` or ``'val'``.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.folder = root / 'imagenet' / split
        self.count = 0
        for name in CLASSES:
            (self.folder / name).mkdir(parents=True)

    def add(self, scene: Scene) -> None:
        """Write one scene's image into the folder of its only digit."""
        (digit,) = scene.digits
        self.count += 1
        name = f'{self.count:06d}_{digit.sample:04d}.png'
        write_png(self.folder / CLASSES[digit.label] / name, scene.image)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image as PNG, the same pixels always as the same bytes.

    Raises:
        OSError: If the file cannot be written.
    """
    # Level 1: ten times faster than the default for files 10 % larger.
    _, encoded = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    path.write_bytes(encoded.tobytes())
