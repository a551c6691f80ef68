"""What is wrong with a data set, all at once and with the names of the files.

:mod:`.data_check` says which paths are missing. Here the content is looked at: annotations in the
layout of COCO, folders of classes, pairs of an image and a mask as in Cityscapes, and, where that
is asked for, every image and mask.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image, UnidentifiedImageError

from acon_mm.errors import UserError
from acon_mm.registry import type_name

_SHOWN = 3
_IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
_IGNORED = 255
_CORNERS = 'boxes that reach out of the image and would fit as x1, y1, x2, y2'
_CORNERS_SHARE = 10


class Fault(NamedTuple):
    """One fault of one file.

    Attributes:
        kind: What is wrong, as the start of a line; equal for all faults that belong together.
        where: The file, or the entry of a file.
        is_fatal: Whether a training has to be refused; else the library leaves the entry out.
    """

    kind: str
    where: str
    is_fatal: bool = True


def check_dataset(cfg: Config, splits: Iterable[str]) -> list[str]:
    """Look at the annotations and folders that a run reads, without opening images.

    Args:
        cfg: The config of the run.
        splits: Which of ``'train'``, ``'val'`` and ``'test'`` it reads.

    Returns:
        A line for each kind of entry that the library leaves out, with the count.

    Raises:
        UserError: With a line for each kind of fault: how many there are, and the first names.
    """
    found = list(dataset_faults(cfg, splits))
    fatal = fault_lines(fault for fault in found if fault.is_fatal)
    if fatal:
        lines = ''.join(f'\n  {line}' for line in fatal)
        raise UserError(
            f'the data cannot be trained or tested with:{lines}'
            if len(fatal) > 1
            else f'the data cannot be trained or tested with: {fatal[0]}'
        )
    return fault_lines(found)


def fault_lines(faults: Iterable[Fault]) -> list[str]:
    """Return a line for each kind of fault: how many there are, and the first names."""
    places = defaultdict(list)
    for fault in faults:
        places[fault.kind].append(fault.where)
    lines = []
    for kind, names in places.items():
        more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
        lines.append(f'{kind} ({len(names)}): {", ".join(names[:_SHOWN])}{more}')
    return lines


def dataset_faults(
    cfg: Config,
    splits: Iterable[str],
    *,
    read_images: bool = False,
    track: Callable[[Iterable], Iterable] = iter,
) -> Iterator[Fault]:
    """Yield every fault in the data sets of some splits.

    Args:
        cfg: The config of the run.
        splits: Which of ``'train'``, ``'val'`` and ``'test'`` are looked at.
        read_images: Whether every image and mask is decoded.
        track: Shows the progress over images.
    """
    folders: dict[str, list[str]] = {}
    for split in splits:
        for dataset in _innermost((cfg.get(f'{split}_dataloader') or {}).get('dataset')):
            kind = type_name(dataset.get('type'))
            if dataset.get('backend_args') or '://' in (dataset.get('data_root') or ''):
                continue
            if 'Coco' in kind:
                yield from _coco_faults(dataset, read_images, track)
                yield from _head_faults(dataset, _num_classes(cfg))
            elif 'Cityscapes' in kind:
                yield from _pair_faults(dataset, _num_classes(cfg), read_images, track)
            elif kind in ('CustomDataset', 'ImageNet') and not dataset.get('ann_file'):
                root = _class_root(dataset)
                folders[split] = sorted(p.name for p in root.iterdir() if p.is_dir())
                yield from _folder_faults(root, read_images, track)
    yield from _class_faults(folders, _num_classes(cfg))


def _innermost(dataset: Any) -> Iterator[dict]:
    if not isinstance(dataset, dict):
        return
    parts = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets')
    if parts is None:
        yield dataset
    for part in parts or ():
        yield from _innermost(part)


def _num_classes(cfg: Config) -> int | None:
    model = cfg.get('model') or {}
    for key in ('head', 'bbox_head', 'decode_head'):
        head = model.get(key)
        if isinstance(head, dict) and head.get('num_classes'):
            return head['num_classes']
    return None


def _coco_faults(dataset: dict, read_images: bool, track: Callable) -> Iterator[Fault]:
    root = Path(dataset.get('data_root') or '')
    path = root / dataset['ann_file']
    folder = root / (dataset.get('data_prefix') or {}).get('img', '')
    try:
        content = json.loads(path.read_bytes())
        images, categories = content['images'], content['categories']
        annotations = content.get('annotations', [])
        by_id = {image['id']: image for image in images}
        names = {category['id']: category['name'] for category in categories}
    except (KeyError, TypeError, ValueError) as error:
        yield Fault(
            'no annotations in the layout of COCO', f'{path} ({type(error).__name__}: {error})'
        )
        return
    yield from _name_faults(dataset, names, path)
    for key, entries in (('image', images), ('annotation', annotations)):
        counts = Counter(entry.get('id') for entry in entries)
        for identity in (identity for identity, count in counts.items() if count > 1):
            yield Fault(f'{key} ids that occur twice', f'{identity} in {path}')
    boxes: Counter = Counter()
    box_faults: list[Fault] = []
    for annotation in annotations:
        where = f'annotation {annotation.get("id")} in {path}'
        image = by_id.get(annotation.get('image_id'))
        if image is None:
            yield Fault('annotations of no image', where)
        elif annotation.get('category_id') not in names:
            yield Fault('annotations of no category', where)
        else:
            boxes[image['id']] += 1
            box_faults.extend(_box_faults(annotation.get('bbox'), image, where))
    # One such box is a slip, many of them are another format.
    corners = [fault for fault in box_faults if fault.kind == _CORNERS]
    is_format = len(corners) * _CORNERS_SHARE > len(annotations)
    yield from (f._replace(is_fatal=is_format) if f.kind == _CORNERS else f for f in box_faults)
    if annotations and not dataset.get('test_mode'):
        for image in images:
            if not boxes[image['id']]:
                yield Fault('images without boxes', image['file_name'], is_fatal=False)
    listed = {path.name for path in folder.iterdir()}
    for image in track(images):
        file = folder / image['file_name']
        if read_images:
            yield from _image_faults(file, (image.get('width'), image.get('height')))
        elif image['file_name'] not in listed and not file.is_file():
            yield Fault('images that are missing', str(file))


def _name_faults(dataset: dict, names: dict, path: Path) -> Iterator[Fault]:
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        return
    if isinstance(classes, str):
        yield Fault('metainfo.classes is a string; it has to be a tuple', repr(classes))
        return
    for name in classes:
        if name not in names.values():
            near = get_close_matches(str(name), list(names.values()), n=1, cutoff=0.6)
            hint = f', did you mean {near[0]!r}?' if near else ''
            yield Fault(
                'classes of the config that the annotations do not have', f'{name!r}{hint}'
            )
    for name in names.values():
        if name not in classes:
            yield Fault('categories that the config does not name', repr(name), is_fatal=False)


def _head_faults(dataset: dict, num_classes: int | None) -> Iterator[Fault]:
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        classes = getattr(DATASETS.get(dataset['type']), 'METAINFO', {}).get('classes')
    if isinstance(classes, (list, tuple)) and num_classes not in (None, len(classes)):
        yield Fault(
            f'the head has num_classes={num_classes} and the data set {len(classes)} classes; set '
            'num_classes of the head, or metainfo.classes of all data sets',
            dataset['ann_file'],
            is_fatal=num_classes < len(classes),  # heads over words have more
        )


def _box_faults(box: Any, image: dict, where: str) -> Iterator[Fault]:
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        yield Fault('annotations without a box of four numbers', where)
        return
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box):
        yield Fault('boxes that are not finite', where)
        return
    x, y, w, h = box
    width, height = image['width'], image['height']
    if w <= 0 or h <= 0:
        yield Fault('boxes without area', where, is_fatal=False)
    elif x >= width or y >= height or x + w <= 0 or y + h <= 0:
        yield Fault('boxes outside of the image', where, is_fatal=False)
    elif (x + w > width + 1 or y + h > height + 1) and x < w <= width and y < h <= height:
        yield Fault(_CORNERS, where)
    elif x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
        yield Fault('boxes that reach out of the image', where, is_fatal=False)


def _image_faults(file: Path, size: tuple | None = None) -> Iterator[Fault]:
    if not file.is_file():
        yield Fault('images that are missing', str(file))
        return
    if not file.stat().st_size:
        yield Fault('images that are empty files', str(file))
        return
    try:
        with Image.open(file) as image:
            found = image.size
            image.load()
    except UnidentifiedImageError:
        yield Fault('files that are no images', str(file))
        return
    except (OSError, SyntaxError, ValueError) as error:
        yield Fault('images that are damaged or cut short', f'{file} ({error})')
        return
    if size is not None and found != size:
        yield Fault(
            'images whose size differs from the annotation',
            f'{file} ({found[0]}×{found[1]} instead of {size[0]}×{size[1]})',
        )


def _class_root(dataset: dict) -> Path:
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    if isinstance(prefix, dict):
        prefix = prefix.get('img_path', '')
    return Path(dataset.get('data_root') or '', prefix)


def _folder_faults(root: Path, read_images: bool, track: Callable) -> Iterator[Fault]:
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        found = (path for path in folder.rglob('*') if path.suffix.lower() in _IMAGES)
        files = list(found if read_images else islice(found, 1))
        if not files:
            yield Fault('class folders without an image', str(folder), is_fatal=False)
        for file in track(files) if read_images else ():
            yield from _image_faults(file)


def _class_faults(folders: dict[str, list[str]], num_classes: int | None) -> Iterator[Fault]:
    for split, names in folders.items():
        if num_classes is not None and len(names) != num_classes:
            yield Fault(
                f'{split}_dataloader has {len(names)} class folders and the head num_classes='
                f'{num_classes}; set model.head.num_classes, and topk below it',
                ', '.join(names[:_SHOWN]),
            )
    first = folders.get('train')
    for split, names in folders.items():
        for name in sorted({*(first or names)} ^ {*names}):
            yield Fault(
                f'class folders in only one of train and {split}, which shift all labels', name
            )


def _pair_faults(
    dataset: dict, num_classes: int | None, read_images: bool, track: Callable
) -> Iterator[Fault]:
    root, prefix = Path(dataset.get('data_root') or ''), dataset.get('data_prefix') or {}
    images, masks = (root / prefix.get(key, '') for key in ('img_path', 'seg_map_path'))
    suffix = dataset.get('img_suffix', '_leftImg8bit.png')
    mask_suffix = dataset.get('seg_map_suffix', '_gtFine_labelTrainIds.png')
    found = {
        folder: {str(p.relative_to(folder)).removesuffix(end) for p in folder.rglob(f'*{end}')}
        for folder, end in ((images, suffix), (masks, mask_suffix))
    }
    if not found[images]:
        yield Fault(f'no image ends in {suffix!r}; set img_suffix', str(images))
    for name in sorted(found[images] - found[masks]):
        yield Fault('images without a mask', str(masks / f'{name}{mask_suffix}'))
    for name in sorted(found[masks] - found[images]):
        yield Fault('masks without an image', str(images / f'{name}{suffix}'), is_fatal=False)
    if not read_images:
        return
    for name in track(sorted(found[images] & found[masks])):
        file, mask = images / f'{name}{suffix}', masks / f'{name}{mask_suffix}'
        faults = [*_image_faults(file), *_image_faults(mask)]
        yield from faults
        if not faults:
            yield from _mask_faults(file, mask, num_classes)


def _mask_faults(file: Path, mask: Path, num_classes: int | None) -> Iterator[Fault]:
    with Image.open(file) as image, Image.open(mask) as labels:
        if image.size != labels.size:
            yield Fault(
                'masks of another size than the image',
                f'{mask} ({labels.size[0]}×{labels.size[1]} instead of '
                f'{image.size[0]}×{image.size[1]})',
            )
        values = np.asarray(labels)
    if values.ndim != 2:
        yield Fault('masks with colours instead of the numbers of classes', str(mask))
    elif num_classes is not None:
        wrong = [int(v) for v in np.unique(values) if v >= num_classes and v != _IGNORED]
        if wrong:
            yield Fault(
                f'masks with values above {num_classes - 1} that are not {_IGNORED}',
                f'{mask} ({", ".join(map(str, wrong[:_SHOWN]))})',
            )
