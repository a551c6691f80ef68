"""Read what a training or test run measured, from the files that mmengine leaves."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mmengine.config import Config

# The metric in a metafile, its key in a log and how the one is computed from the other.
_KEYS = {
    'Top 1 Error': ('accuracy/top1', lambda value: 100 - value),
    'box AP': ('coco/bbox_mAP', lambda value: 100 * value),
    'box AP@50': ('coco/bbox_mAP_50', lambda value: 100 * value),
    'box AP@75': ('coco/bbox_mAP_75', lambda value: 100 * value),
    'box AP small': ('coco/bbox_mAP_s', lambda value: 100 * value),
    'box AP medium': ('coco/bbox_mAP_m', lambda value: 100 * value),
    'box AP large': ('coco/bbox_mAP_l', lambda value: 100 * value),
    'mIoU': ('mIoU', lambda value: value),
}

# What pycocotools reports where the data hold no object of that size.
_NOTHING_TO_FIND = -1


# A checkpoint that mmengine named by how long the run had trained.
_CHECKPOINT = re.compile(r'(epoch|iter)_(\d+)\.pth$')


def measured_metrics(
    model: str,
    work_dirs: Sequence[str | os.PathLike],
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Return what the latest finished run of a model measured.

    If the run was tested, the test counts; otherwise the validation after the last epoch or
    iteration, not the best one. Tests in several views (``--tta``), tests of earlier checkpoints
    and validations before the end of a training are left out: a table could not show that they
    are not what the paper reports.

    Args:
        model: The name of the model, which is that of its config.
        work_dirs: Folders of runs. Each is the work dir of the model itself, recognised by its
            name or by the config in it, or contains a folder of that name.
        log: Called with a line for each run that is left out.

    Returns:
        The metrics in percent, by the name they have in the metafiles. Empty without a run.
    """
    for root in map(Path, work_dirs):
        is_own = root.name == model or (root / f'{model}.py').is_file()
        folder = root if is_own else root / model
        for run in sorted((p for p in folder.glob('*/') if p.is_dir()), reverse=True):
            tested = metrics_of(latest_test_record(run.parent, run.name))
            validation = {} if tested else _last_validation(run)
            found = tested or metrics_of(validation)
            reason = _why_left_out(run, validation) if found else ''
            if found and not reason:
                return found
            if reason:
                log(f'{run} is left out: {reason}')
    return {}


def metrics_of(record: dict) -> dict[str, float]:
    """Return the metrics in what mmengine logged, in percent, by their names in the metafiles."""
    return {
        metric: round(convert(record[key]), 2)
        for metric, (key, convert) in _KEYS.items()
        if key in record and record[key] != _NOTHING_TO_FIND
    }


def latest_test_record(work_dir: str | os.PathLike, run: str = '*') -> dict:
    """Return all that the latest test in a work dir logged at its end.

    Args:
        work_dir: The work dir.
        run: The folder of the run in it, which is a time; by default the latest with a test.

    Returns:
        By the keys of the log. Empty if no test has ended, or what it wrote cannot be read.
    """
    logs = sorted(p for p in Path(work_dir).glob(f'{run}/*.json') if p.stem == p.parent.name)
    records = list(_records(logs[-1])) if logs else []
    return records[-1] if records else {}


def scalar_records(run: Path) -> Iterator[dict]:
    """Yield what the local visualizer backend of a run logged, a record for each time."""
    return _records(run / 'vis_data' / 'scalars.json')


def _last_validation(run: Path) -> dict:
    records = list(scalar_records(run))
    return next((record for record in reversed(records) if metrics_of(record)), {})


def _why_left_out(run: Path, validation: dict) -> str:
    """Say why a run is not what a table reports, by the config that mmengine left beside its log.

    Args:
        run: The folder of the run.
        validation: The record of its last validation; empty for a test.
    """
    path = run / 'vis_data' / 'config.py'
    if not path.is_file():  # an own visualizer may not write it
        return ''
    cfg = Config.fromfile(path, import_custom_modules=False)
    if 'module' in cfg.get('model', {}):
        return 'it is a test in several views (--tta)'
    loop = cfg.get('train_cfg') or {}
    unit = 'epoch' if 'max_epochs' in loop else 'iter'
    last = loop.get(f'max_{unit}s', 0)
    if validation:
        reached = validation.get('step', last)
    else:
        named = _CHECKPOINT.search(str(cfg.get('load_from')))
        reached = int(named[2]) if named and named[1] == unit else last
    return f'it is at {unit} {reached} of {last}' if reached < last else ''


def _records(path: Path) -> Iterator[dict]:
    """Yield the JSON objects of a file of lines; a run that was killed may leave half a line."""
    if not path.is_file():
        return
    for line in path.read_text(encoding='utf-8').splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            yield record
