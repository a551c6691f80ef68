"""Pairs of an image and a mask with the number of a class in each pixel."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .fault import SHOWN, Fault
from .images import image_faults, listed_lines

_IGNORED = 255


def mask_faults(
    dataset: dict,
    argument: Callable[[str], Any],
    default_classes: tuple[str, ...] | None,
    num_classes: int | None,
    read_images: bool,
    track: Callable,
) -> Iterator[Fault]:
    """Yield the faults of one data set.

    Args:
        dataset: The config of the data set.
        argument: Returns an argument of the data set by its name, the default included.
        default_classes: The classes that it has without ``metainfo.classes``.
        num_classes: Those of the head.
        read_images: Whether every image and mask is decoded.
        track: Shows the progress over images.
    """
    classes = (dataset.get('metainfo') or {}).get('classes')
    expected = set(range(num_classes or 0))
    if classes is not None and default_classes and list(classes) != list(default_classes):
        for name in classes:
            if name not in default_classes:
                yield Fault(f'classes that {dataset["type"]} does not have', repr(name))
        # mmseg translates the numbers in the masks.
        expected = {n for n, name in enumerate(default_classes) if name in classes}
        num_classes = len(default_classes)
    root, prefix = Path(dataset.get('data_root') or ''), dataset.get('data_prefix') or {}
    images, masks = (root / prefix.get(key, '') for key in ('img_path', 'seg_map_path'))
    faults = [
        Fault('folders of images that are no folders', str(folder))
        for folder in (images, masks)
        if not folder.is_dir()
    ]
    suffix, mask_suffix = argument('img_suffix'), argument('seg_map_suffix')
    listing = root / dataset['ann_file'] if dataset.get('ann_file') else None
    lines = listed_lines(listing) if listing and not listing.is_dir() else None
    if isinstance(lines, Fault):
        faults.append(lines)
    yield from faults
    if faults:
        return
    ends = ((images, suffix), (masks, mask_suffix))
    names = {folder: _names(folder, end) for folder, end in ends}
    wanted = {line.strip() for line in lines} if isinstance(lines, list) else names[images]
    if not names[images]:
        yield Fault(f'no image ends in {suffix!r}; set img_suffix', str(images))
    if not names[masks]:
        yield Fault(f'no mask ends in {mask_suffix!r}; set seg_map_suffix', str(masks))
        return
    for name in sorted(wanted - names[images] if lines is not None else ()):
        yield Fault('images that are missing', str(images / f'{name}{suffix}'))
    for name in sorted((wanted & names[images]) - names[masks]):
        yield Fault('images without a mask', str(masks / f'{name}{mask_suffix}'))
    for name in sorted(names[masks] - names[images]):
        yield Fault('masks without an image', str(images / f'{name}{suffix}'), is_fatal=False)
    if not read_images:
        return
    ignored = argument('ignore_index')
    ignored = _IGNORED if ignored is None else ignored
    seen: set[int] = set()
    for name in track(sorted(wanted & names[images] & names[masks])):
        file, mask = images / f'{name}{suffix}', masks / f'{name}{mask_suffix}'
        faults = [*image_faults(file), *image_faults(mask)]
        yield from faults or _pair_faults(file, mask)
        values = None if faults else _values(mask, bool(argument('reduce_zero_label')))
        if values is None:
            continue
        seen |= values
        highest = ignored if num_classes is None else num_classes - 1
        wrong = sorted(value for value in values if value > highest and value != ignored)
        if wrong:
            yield Fault(
                f'masks with values above {highest} that are not {ignored}',
                f'{mask} ({", ".join(map(str, wrong[:SHOWN]))})',
            )
        if values == {ignored}:
            yield Fault(f'masks of nothing but {ignored}, which is ignored', str(mask), False)
    if seen and not dataset.get('test_mode'):
        for number in sorted(expected - seen):
            yield Fault('numbers of classes that no mask has', str(number), is_fatal=False)


def _names(folder: Path, end: str) -> set[str]:
    """Return the files below a folder without their ending, as mmengine lists them."""
    return {
        str(Path(parent, name).relative_to(folder)).removesuffix(end)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.endswith(end) and not name.startswith('.')
    }


def _pair_faults(file: Path, mask: Path) -> Iterator[Fault]:
    with Image.open(file) as image, Image.open(mask) as labels:
        if image.size != labels.size:
            yield Fault(
                'masks of another size than the image',
                f'{mask} ({labels.size[0]}×{labels.size[1]} instead of '
                f'{image.size[0]}×{image.size[1]})',
            )
        if labels.format == 'JPEG':
            yield Fault('masks saved as JPEG, which changes the numbers in them', str(mask))
        if len(labels.getbands()) > 1:
            yield Fault('masks with colours instead of the numbers of classes', str(mask))


def _values(mask: Path, is_zero_ignored: bool) -> set[int] | None:
    """Return the numbers in a mask as mmseg reads them, None for a mask with colours."""
    with Image.open(mask) as labels:
        if len(labels.getbands()) > 1:
            return None
        values = {int(value) for value in np.unique(np.asarray(labels))}
    if is_zero_ignored:
        values = {_IGNORED if value in (0, _IGNORED) else value - 1 for value in values}
    return values
