"""Check that every file that a run reads exists, before a model is built.

Otherwise a missing folder would end in a traceback, minutes later. Here it is one sentence with
the path, its config key and the expected layout.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log

from acon_mm.errors import UserError
from acon_mm.registry import type_name

DIGIT_SCENES = 'digit_scenes'

_IMAGENET = 'ImageNet: one folder of images per class, train/CLASS/*.JPEG and val/CLASS/*.JPEG'
_CITYSCAPES = (
    'Cityscapes: leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and '
    'gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png'
)
# The first key that is part of the name of a dataset or metric counts.
_LAYOUTS = {
    'Coco': 'COCO: annotations/instances_{train2017,val2017}.json beside the image folders '
    'train2017/ and val2017/',
    'Cityscapes': _CITYSCAPES,
    'DigitScene': _CITYSCAPES,
    'ImageNet': _IMAGENET,
    'CustomDataset': _IMAGENET,
}


class Needed(NamedTuple):
    """A path that a run reads.

    Attributes:
        key: The config key that names it, such as ``train_dataloader.dataset.ann_file``.
        path: The path, joined with the ``data_root`` beside the key.
        kind: The type of the dataset or metric that reads it.
    """

    key: str
    path: str
    kind: str


def check_data(cfg: Config, splits: tuple[str, ...]) -> None:
    """Check that the data which ``cfg`` names for some splits exists on this machine.

    Paths with a scheme (``s3://``, ``http://``), and datasets and metrics with ``backend_args``,
    are left to mmengine. Datasets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``
    are checked as well.

    Args:
        cfg: The config of the run.
        splits: Which of ``'train'``, ``'val'`` and ``'test'`` the run reads.

    Raises:
        UserError: For the first path that is missing: one sentence with the key, the path, the
            layout expected and how to get it.
    """
    for needed in needed_data(cfg, splits):
        if _is_missing(needed.path):
            raise UserError(_sentence(needed))


def check_checkpoints(cfg: Config) -> None:
    """Check that the checkpoints which ``cfg`` starts from exist on this machine.

    What ``load_from`` names fills the whole model, and is loaded last. Beside it, an ``init_cfg``
    whose file is missing is taken out of the config, with a line in the log.

    Args:
        cfg: The config of the run: ``load_from`` and every ``init_cfg`` of type ``Pretrained``.

    Raises:
        UserError: For the first file that is missing.
    """
    starts = []
    for key, path, owner, index in reversed(list(_pretrained(cfg.get('model'), 'model'))):
        if cfg.get('load_from') and _is_missing(os.path.expanduser(path)):
            del owner[index]
            print_log(
                f'{key} is {path!r}, which does not exist; load_from takes its place',
                logger='current',
            )
        else:
            starts.append((key, path))
    if cfg.get('load_from'):
        starts.append(('load_from', cfg.load_from))
    for key, path in starts:
        # mmengine expands `~` in the names of checkpoints, but not in those of data.
        if _is_missing(os.path.expanduser(path)):
            unset = key.removesuffix('.checkpoint')
            raise UserError(
                f'{key} is {path!r}, which does not exist{_seen_from(path)}; give the path '
                f'of a checkpoint, or start without one: --cfg-options {unset}=None'
            )


def needed_data(cfg: Config, splits: tuple[str, ...]) -> Iterator[Needed]:
    """Yield every path that the dataloaders and evaluators of some splits read."""
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            yield from _dataset_paths(loader.get('dataset'), f'{split}_dataloader.dataset')
        yield from _evaluator_paths(cfg.get(f'{split}_evaluator'), f'{split}_evaluator')


def _dataset_paths(dataset: Any, key: str) -> Iterator[Needed]:
    if not isinstance(dataset, dict) or dataset.get('backend_args'):
        return
    if 'dataset' in dataset:
        yield from _dataset_paths(dataset['dataset'], f'{key}.dataset')
    for index, part in enumerate(dataset.get('datasets', ())):
        yield from _dataset_paths(part, f'{key}.datasets.{index}')

    kind = type_name(dataset.get('type'))
    root = dataset.get('data_root') or ''
    named = {}
    if isinstance(dataset.get('ann_file'), str) and dataset['ann_file']:
        named['ann_file'] = dataset['ann_file']
    prefix = dataset.get('data_prefix') or {}
    if isinstance(prefix, dict):
        named |= {f'data_prefix.{name}': folder for name, folder in prefix.items()}
    else:
        named['data_prefix'] = prefix
    # Folders of classes may be named by `split` or `data_root` alone. Other datasets with nothing
    # but a root are left alone: some of them download themselves.
    if not named and 'ImageNet' in kind and dataset.get('split'):
        named['split'] = dataset['split']
    if not named and root and _layout(kind):
        named['data_root'] = ''
    for name, value in named.items():
        if isinstance(value, str):
            # The one library whose datasets expand `~`, and only in these two arguments.
            if name in ('ann_file', 'data_prefix') and _layout(kind).startswith('ImageNet'):
                value = os.path.expanduser(value)
            yield Needed(f'{key}.{name}', _join(root, value), kind)


def _evaluator_paths(evaluator: Any, key: str) -> Iterator[Needed]:
    if isinstance(evaluator, (list, tuple)):
        for index, metric in enumerate(evaluator):
            yield from _evaluator_paths(metric, f'{key}.{index}')
        return
    if not isinstance(evaluator, dict) or evaluator.get('backend_args'):
        return
    if isinstance(evaluator.get('ann_file'), str):
        yield Needed(f'{key}.ann_file', evaluator['ann_file'], type_name(evaluator.get('type')))


def _pretrained(node: Any, key: str) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield every ``init_cfg`` with a checkpoint below a part of the model.

    Each is the key, the checkpoint, the dict or list that holds the ``init_cfg``, and where in it.
    """
    children: Any = ()
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    for name, child in children:
        is_init = isinstance(child, dict) and child.get('checkpoint')
        if is_init and type_name(child.get('type')) in ('Pretrained', 'PretrainedInit'):
            yield f'{key}.{name}.checkpoint', child['checkpoint'], node, name
        yield from _pretrained(child, f'{key}.{name}')


def _join(root: str, path: str) -> str:
    """Join as mmengine's datasets do: an absolute path or one with a scheme ignores the root."""
    if '://' in path:
        return path
    return f'{root}/{path}' if '://' in root else str(Path(root) / path)


def _layout(kind: str) -> str:
    return next((text for name, text in _LAYOUTS.items() if name in kind), '')


def _is_missing(path: str) -> bool:
    return '://' not in path and not Path(path).exists()


def _seen_from(path: str) -> str:
    return '' if Path(path).is_absolute() else f' in {Path.cwd()}'


def _sentence(needed: Needed) -> str:
    layout = _layout(needed.kind)
    expected = f'; expected is the layout of {layout}' if layout else ''
    parts = Path(needed.path).parts
    if DIGIT_SCENES in parts:
        out = Path(*parts[: parts.index(DIGIT_SCENES) + 1])
        advice = f'make it: python tools/dataset_converters/make_digit_scenes.py --out {out}'
    else:
        advice = 'link the data there, or change the key with --cfg-options'
    return (
        f'{needed.key} points to {needed.path!r}, which does not exist'
        f'{_seen_from(needed.path)}{expected}; {advice}'
    )
