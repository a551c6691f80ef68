"""Read what a training or test run measured, from the files that mmengine leaves."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

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


def measured_metrics(model: str, work_dirs: Sequence[str | os.PathLike]) -> dict[str, float]:
    """Return what the latest run of a model measured.

    A test counts before the validation of the run, and of that the last epoch, not the best one.

    Args:
        model: The name of the model, which is that of its config.
        work_dirs: Folders of runs. Each is the work dir of the model itself, known by its name
            or by the config that the run left there, or holds one of that name.

    Returns:
        The metrics in percent, by the name they have in the metafiles. Empty without a run.
    """
    for root in map(Path, work_dirs):
        is_own = root.name == model or (root / f'{model}.py').is_file()
        folder = root if is_own else root / model
        for run in sorted((p for p in folder.glob('*/') if p.is_dir()), reverse=True):
            tested = _records(run / f'{run.name}.json')
            validated = _records(run / 'vis_data' / 'scalars.json')
            for record in (*reversed(list(tested)), *reversed(list(validated))):
                found = {
                    metric: round(convert(record[key]), 2)
                    for metric, (key, convert) in _KEYS.items()
                    if key in record and record[key] != _NOTHING_TO_FIND
                }
                if found:
                    return found
    return {}


def latest_test_record(work_dir: str | os.PathLike) -> dict:
    """Return all that the latest test in a work dir logged at its end.

    Returns:
        By the keys of the log. Empty if no test has ended, or what it wrote cannot be read.
    """
    logs = sorted(p for p in Path(work_dir).glob('*/*.json') if p.stem == p.parent.name)
    records = list(_records(logs[-1])) if logs else []
    return records[-1] if records else {}


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
