"""What is wrong with a data set, all at once and with the names of the files.

:mod:`.data_check` says which paths are missing. Here the content is looked at: annotations in the
layout of COCO, folders of classes, pairs of an image and a mask as in Cityscapes, and, where that
is asked for, every image and mask.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from acon_mm.errors import UserError

from .data_faults import (
    Fault,
    class_folder_faults,
    coco_faults,
    fault_lines,
    mask_faults,
    split_faults,
)


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


def dataset_faults(
    cfg: Config,
    splits: Iterable[str],
    *,
    read_images: bool = False,
    track: Callable[[Iterable], Iterable] = iter,
) -> Iterator[Fault]:
    """Yield every fault in the data sets of some splits.

    Data sets that read another layout, and those on another machine, are left alone.

    Args:
        cfg: The config of the run.
        splits: Which of ``'train'``, ``'val'`` and ``'test'`` are looked at.
        read_images: Whether every image and mask is decoded.
        track: Shows the progress over images.
    """
    folders: dict[str, list[str]] = {}
    all_classes: dict[str, Any] = {}
    num_classes = _num_classes(cfg)
    for split in splits:
        for dataset in _innermost((cfg.get(f'{split}_dataloader') or {}).get('dataset')):
            if dataset.get('backend_args') or '://' in (dataset.get('data_root') or ''):
                continue
            cls = _class_of(dataset, cfg.get('default_scope'))
            argument = partial(_argument, dataset, cls)
            default = getattr(cls, 'METAINFO', {}).get('classes')
            if 'CLASSES' in (dataset.get('metainfo') or {}):
                where = f'{split}_dataloader'
                yield Fault('metainfo.CLASSES is read by nothing; write metainfo.classes', where)
            if _reads_as(cls, 'CocoDataset', 'load_data_list', 'parse_data_info'):
                yield from coco_faults(dataset, default, num_classes, read_images, track)
            elif _reads_as(cls, 'BaseSegDataset', 'load_data_list') and _has_masks(dataset):
                yield from mask_faults(dataset, argument, default, num_classes, read_images, track)
            elif _reads_as(cls, 'CustomDataset', 'load_data_list'):
                found: list[str] = []
                yield from class_folder_faults(
                    dataset, argument, found, num_classes, read_images, track
                )
                if found:
                    folders[split] = found
                    all_classes[split] = (dataset.get('metainfo') or {}).get('classes', default)
    yield from split_faults(folders, all_classes, num_classes)


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


def _class_of(dataset: dict, scope: str | None) -> Any:
    kind = dataset.get('type')
    if not isinstance(kind, str):
        return kind
    with DATASETS.switch_scope_and_registry(dataset.get('_scope_') or scope) as registry:
        try:
            return registry.get(kind)
        except RuntimeError:  # a name that the check of the config tells
            return None


def _reads_as(cls: Any, name: str, *methods: str) -> bool:
    """Return whether a class has a base of that name and reads its files as that one does."""
    bases = inspect.getmro(cls) if inspect.isclass(cls) else ()
    base = next((base for base in bases if base.__name__ == name), None)
    return base is not None and all(getattr(cls, m) is getattr(base, m) for m in methods)


def _has_masks(dataset: dict) -> bool:
    return 'seg_map_path' in (dataset.get('data_prefix') or {})


def _argument(dataset: dict, cls: type, name: str) -> Any:
    """Return what a data set gets for an argument, the default of its class included."""
    if name in dataset:
        return dataset[name]
    for base in inspect.getmro(cls):
        parameter = inspect.signature(base).parameters.get(name)
        if parameter is not None:
            return parameter.default
    return None
