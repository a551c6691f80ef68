"""A folder of images for each class, or a list of images with the numbers of their classes."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .fault import SHOWN, Fault
from .images import image_faults, listed_lines, missing_image


def class_folder_faults(
    dataset: dict,
    argument: Callable[[str], Any],
    folders: list[str],
    num_classes: int | None,
    read_images: bool,
    track: Callable,
) -> Iterator[Fault]:
    """Yield the faults of one data set.

    Args:
        dataset: The config of the data set.
        argument: Returns an argument of the data set by its name, the default included.
        folders: Gets the names of the class folders.
        num_classes: The classes of the head.
        read_images: Whether every image is decoded.
        track: Shows the progress over images.
    """
    prefix, split = dataset.get('data_prefix') or '', dataset.get('split') or ''
    if isinstance(prefix, dict):
        prefix = prefix.get('img_path', '')
    top = Path(dataset.get('data_root') or '')
    root, listing = top / (prefix or split), dataset.get('ann_file')
    if not listing and split and (top / f'meta/{split}.txt').is_file():
        listing = f'meta/{split}.txt'
    if not root.is_dir():
        yield Fault('folders of images that are no folders', str(root))
    elif listing:
        yield from _listed_faults(root, top / listing, num_classes, read_images, track)
    elif argument('with_label') is not False and split != 'test':
        found = sorted(path for path in root.iterdir() if path.is_dir())
        folders += [folder.name for folder in found]
        extensions = tuple(argument('extensions'))
        yield from _folder_faults(root, found, extensions, read_images, track)


def _folder_faults(
    root: Path, folders: list[Path], suffixes: tuple, read_images: bool, track: Callable
) -> Iterator[Fault]:
    if not folders:
        yield Fault(
            'folders without a folder for each class; move the images, or list them with their '
            'numbers in an ann_file',
            str(root),
        )
        return
    faults = []
    for folder in folders:
        has_image = False
        files = _files_below(folder)
        for file in track(list(files)) if read_images else files:
            if not file.name.lower().endswith(suffixes):
                kind = f'files left out, as they do not end in {", ".join(suffixes)}'
                faults.append(Fault(kind, str(file), is_fatal=False))
                continue
            has_image = True
            if not read_images:
                break
            faults.extend(image_faults(file))
        if not has_image:
            faults.append(Fault('class folders without an image', str(folder), is_fatal=False))
    if sum(fault.kind.startswith('class folders') for fault in faults) == len(folders):
        yield Fault(f'no class folder has a file that ends in {", ".join(suffixes)}', str(root))
    yield from faults


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, followlinks=True):
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith('.'))


def _listed_faults(
    root: Path, path: Path, num_classes: int | None, read_images: bool, track: Callable
) -> Iterator[Fault]:
    lines = listed_lines(path)
    if isinstance(lines, Fault):
        yield lines
        return

    @cache  # listing a folder once is quicker than asking for each of its files
    def names_in(folder: Path) -> set[str]:
        return set(os.listdir(folder)) if folder.is_dir() else set()

    for number, line in enumerate(track(lines), 1):
        name, _, label = line.strip().rpartition(' ')
        where = f'line {number} of {path} ({line!r})'
        if not name or not label.isdecimal():
            yield Fault('lines that are not a file, a space and the number of a class', where)
            continue
        if num_classes is not None and int(label) >= num_classes:
            yield Fault(
                f'numbers of classes above {num_classes - 1}, as the head has '
                f'num_classes={num_classes}',
                where,
            )
        file = root / name
        if read_images:
            yield from image_faults(file)
        elif file.name not in names_in(file.parent):
            yield missing_image(file)


def split_faults(
    folders: dict[str, list[str]], classes: dict[str, Any], num_classes: int | None
) -> Iterator[Fault]:
    """Yield what does not belong together: the class folders of the splits, classes, the head.

    Args:
        folders: The names of the class folders by split.
        classes: The classes that the data set of a split has by its config or its type.
        num_classes: The classes of the head.
    """
    for split, names in folders.items():
        known = classes.get(split)
        shown = ', '.join(names[:SHOWN])
        if num_classes is not None and len(names) != num_classes:
            yield Fault(
                f'{split}_dataloader has {len(names)} class folders and the head num_classes='
                f'{num_classes}; set model.head.num_classes, and topk below it',
                shown,
            )
        if isinstance(known, (list, tuple)) and len(names) != len(known):
            yield Fault(
                f'{split}_dataloader has {len(names)} class folders and its data set '
                f'{len(known)} classes; set metainfo.classes, or take mmpretrain.CustomDataset',
                shown,
            )
    first = folders.get('train')
    for split, names in folders.items():
        for name in sorted({*(first or names)} ^ {*names}):
            yield Fault(
                f'class folders in only one of train and {split}, which shift all labels', name
            )
