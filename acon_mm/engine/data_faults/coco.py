"""Annotations in the layout of COCO."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .fault import SHOWN, Fault
from .images import image_faults, missing_image

# What mmdet reads of each entry.
_KEYS = {
    'images': ('id', 'file_name', 'width', 'height'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
    'categories': ('id', 'name'),
}
_NUMBER_KEYS = {'width', 'height', 'area'}
_ID_KEYS = {'id', 'image_id', 'category_id', 'file_name', 'name'}
_CORNERS = 'boxes that reach out of the image and would fit as x1, y1, x2, y2'
_FRACTIONS = 'boxes that would fit as fractions of the image, where pixels are read'
# One such box is a slip, many of them are another format.
_FORMATS = (_CORNERS, _FRACTIONS)
_FORMAT_SHARE = 10


def coco_faults(
    dataset: dict,
    default_classes: tuple[str, ...] | None,
    num_classes: int | None,
    read_images: bool,
    track: Callable,
) -> Iterator[Fault]:
    """Yield the faults of one data set.

    Args:
        dataset: The config of the data set.
        default_classes: The classes that it has without ``metainfo.classes``.
        num_classes: Those of the head.
        read_images: Whether every image is decoded.
        track: Shows the progress over images.
    """
    root = Path(dataset.get('data_root') or '')
    path = root / dataset['ann_file']
    folder = root / (dataset.get('data_prefix') or {}).get('img', '')
    content = _read(path)
    if not isinstance(content, Fault):
        faults = list(_layout_faults(content, path, bool(dataset.get('test_mode'))))
    else:
        faults = [content]
    if not folder.is_dir():
        faults.append(Fault('folders of images that are no folders', str(folder)))
    yield from faults
    if any(fault.is_fatal for fault in faults):
        return
    images, annotations = content['images'], content.get('annotations') or []
    names = {category['id']: category['name'] for category in content['categories']}
    classes = (dataset.get('metainfo') or {}).get('classes', default_classes)
    yield from _class_faults(dataset, classes, names, path)
    yield from _head_faults(dataset, classes, num_classes)
    yield from _annotation_faults(dataset, classes, names, images, annotations, path)
    listed = {entry.name for entry in os.scandir(folder)}
    for image in track(images):
        file = folder / image['file_name']
        if read_images:
            yield from image_faults(file, (image['width'], image['height']))
        elif image['file_name'] not in listed and not file.is_file():
            yield missing_image(file)


def _read(path: Path) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        return Fault('annotations that cannot be read', f'{path} ({error.strerror})')
    except json.JSONDecodeError as error:
        place = f'line {error.lineno}, column {error.colno} of {path}'
        return Fault('annotations that are no json, or cut short', place)
    except ValueError:
        return Fault('annotations that are no text', str(path))
    if not isinstance(content, dict):
        return Fault(
            'annotations whose json is no dict of images, annotations and categories', str(path)
        )
    return content


def _layout_faults(content: dict, path: Path, is_test: bool) -> Iterator[Fault]:
    for key, wanted in _KEYS.items():
        entries = content.get(key, [] if key == 'annotations' and is_test else None)
        if not isinstance(entries, list):
            yield Fault(f'annotations without a list of {key}', str(path))
            continue
        if not entries and key != 'annotations':
            yield Fault(f'annotations with an empty list of {key}', str(path))
        for index, entry in enumerate(entries):
            where = f'{key}[{index}] in {path}'
            if not isinstance(entry, dict):
                yield Fault(f'{key} that are no dicts', where)
                continue
            for name in wanted:
                value: Any = entry.get(name)
                if name not in entry:
                    yield Fault(f'{key} without {name}', where)
                elif name in _ID_KEYS and not isinstance(value, (int, str)):
                    yield Fault(f'{key} whose {name} is no number and no text', where)
                elif name in _NUMBER_KEYS and not isinstance(value, (int, float)):
                    yield Fault(f'{key} whose {name} is no number', f'{where} ({value!r})')
                elif name in ('width', 'height') and value < 1:
                    yield Fault(f'{key} whose {name} is below 1', f'{where} ({value!r})')
        for name in ('id', 'file_name') if key == 'images' else ('id', 'name'):
            values = [str(e[name]) for e in entries if isinstance(e, dict) and name in e]
            for value in (value for value, count in Counter(values).items() if count > 1):
                is_fatal = name != 'file_name'
                yield Fault(f'{key} whose {name} occurs twice', f'{value} in {path}', is_fatal)


def _class_faults(dataset: dict, classes: Any, names: dict, path: Path) -> Iterator[Fault]:
    if isinstance(classes, str):
        yield Fault('metainfo.classes is a string; it has to be a tuple', repr(classes))
        return
    if not isinstance(classes, (list, tuple)):
        return
    known = list(names.values())
    is_given = 'classes' in (dataset.get('metainfo') or {})
    if not is_given and not set(known) & set(classes):
        yield Fault(
            f'no category is one of the {len(classes)} classes of {dataset["type"]}; set '
            'metainfo.classes',
            f'{path} has {", ".join(map(str, known[:SHOWN]))}',
        )
        return
    for name in classes:
        if name not in known:
            near = get_close_matches(str(name), map(str, known), n=1, cutoff=0.6)
            hint = f', did you mean {near[0]!r}?' if near else ''
            whose = 'the config' if is_given else 'the data set'
            yield Fault(
                f'classes of {whose} that the annotations do not have', f'{name!r}{hint}', is_given
            )
    for name in known:
        if name not in classes:
            yield Fault('categories that the config does not name', repr(name), is_fatal=False)
    # mmdet numbers the classes in the order of the file.
    order = [name for name in known if name in classes]
    if order != [name for name in classes if name in known]:
        yield Fault(
            'classes in another order than the categories, so predictions get wrong names',
            f'{path} has {", ".join(order)}',
            is_fatal=False,
        )


def _head_faults(dataset: dict, classes: Any, num_classes: int | None) -> Iterator[Fault]:
    if num_classes is None or not isinstance(classes, (list, tuple)):
        return
    if num_classes != len(classes):
        yield Fault(
            f'the head has num_classes={num_classes} and the data set {len(classes)} classes; set '
            'num_classes of the head, or metainfo.classes of all data sets',
            dataset['ann_file'],
            is_fatal=num_classes < len(classes),  # heads over words have more
        )


def _annotation_faults(
    dataset: dict, classes: Any, names: dict, images: list, annotations: list, path: Path
) -> Iterator[Fault]:
    by_id = {image['id']: image for image in images}
    in_classes: Counter = Counter()
    box_faults: list[Fault] = []
    for annotation in annotations:
        where = f'annotation {annotation["id"]!r} in {path}'
        image, category = annotation['image_id'], annotation['category_id']
        if image not in by_id:
            yield Fault('annotations of no image', f'{where} (image_id {image!r})')
        elif category not in names:
            yield Fault('annotations of no category', f'{where} (category_id {category!r})')
        else:
            found = list(_box_faults(annotation, by_id[image], where))
            in_classes[image] += classes is None or names[category] in classes
            box_faults.extend(found)
    counts = Counter(fault.kind for fault in box_faults if fault.kind in _FORMATS)
    formats = {kind for kind, n in counts.items() if n * _FORMAT_SHARE > len(annotations)}
    for fault in box_faults:
        is_slip = fault.kind in _FORMATS and fault.kind not in formats
        yield fault._replace(is_fatal=False) if is_slip else fault
    if not dataset.get('test_mode'):
        yield from _filter_faults(dataset.get('filter_cfg') or {}, in_classes, images, path)


def _filter_faults(
    filters: dict, in_classes: Counter, images: list, path: Path
) -> Iterator[Fault]:
    left_out = {
        image['id']
        for image in images
        if (filters.get('filter_empty_gt') and not in_classes[image['id']])
        or min(image['width'], image['height']) < filters.get('min_size', 0)
    }
    if not in_classes.total():
        yield Fault('annotations without a box of any class of the config', str(path))
    elif len(left_out) == len(images):
        yield Fault(f'filter_cfg={dict(filters)} leaves out all {len(images)} images', str(path))
    else:
        for image in images:
            if image['id'] in left_out:
                kind = 'images that filter_cfg leaves out'
            elif not in_classes[image['id']]:
                kind = 'images without boxes'
            else:
                continue
            yield Fault(kind, image['file_name'], is_fatal=False)


def _box_faults(annotation: dict, image: dict, where: str) -> Iterator[Fault]:
    box = annotation['bbox']
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        yield Fault('annotations without a box of four numbers', where)
        return
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box):
        yield Fault('boxes that are not finite', where)
        return
    x, y, w, h = box
    width, height = image['width'], image['height']
    is_too_far = x + w > width + 1 or y + h > height + 1
    if w <= 0 or h <= 0 or annotation['area'] <= 0:
        yield Fault('boxes without area', where, is_fatal=False)
    elif x >= width or y >= height or x + w <= 0 or y + h <= 0:
        yield Fault('boxes outside of the image', where, is_fatal=False)
    elif all(0 <= v <= 1 for v in box) and (w < 1 or h < 1):
        yield Fault(_FRACTIONS, where)
    elif w < 1 or h < 1:
        yield Fault('boxes of less than a pixel', where, is_fatal=False)
    elif is_too_far and x < w <= width and y < h <= height:
        yield Fault(_CORNERS, where)
    elif is_too_far or x < -1 or y < -1:
        yield Fault('boxes that reach out of the image', where, is_fatal=False)
