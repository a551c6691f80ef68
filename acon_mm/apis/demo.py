"""Predict pictures, folders and videos, and write pictures and one JSON."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from acon_mm.errors import UserError
from acon_mm.progress import track

from .inference import IMAGE_SUFFIXES, files_in, inference, read_image
from .models import get_model
from .visualization import draw_sample

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm')


def demo(
    inputs: Sequence[str | os.PathLike],
    model: str | os.PathLike | Config,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    device: str = 'cpu',
    score_thr: float = 0.3,
) -> dict[str, Any]:
    """Predict pictures, folders of pictures and videos.

    Args:
        inputs: Pictures, videos, and folders whose pictures and videos are taken.
        model: A name of :func:`.list_models`, the path of a config, or a config.
        checkpoint: The path or URL of the model's checkpoint.
        out: The folder to write to: a picture or a video with the predictions for each input, the
            class of each pixel as a PNG for a segmentor, and ``predictions.json``.
        device: Where the model runs, such as ``'cuda:0'``.
        score_thr: The lowest score of a box that is drawn and written.

    Returns:
        The content of ``predictions.json``: ``predictions`` has a list of records for each input,
        ``skipped`` has the reason for each input that could not be read.

    Raises:
        UserError: If the model cannot be built, or no input could be read.
    """
    network = get_model(model, checkpoint, device)
    folder = Path(out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    predictions: dict[str, list] = {}
    skipped: dict[str, str] = {}
    for path, name in track(_named(_files(inputs, skipped)), 'Predicting'):
        one = _video if path.suffix.lower() in VIDEO_SUFFIXES else _picture
        try:
            predictions[str(path)] = one(network, path, folder / name, score_thr)
        except UserError as error:
            skipped[str(path)] = str(error)
    for reason in skipped.values():
        print(f'skipped: {reason}', flush=True)
    if not predictions:
        raise UserError(f'inputs {[os.fspath(i) for i in inputs]} hold nothing that can be read')
    result = {'predictions': predictions, 'skipped': skipped}
    (folder / 'predictions.json').write_text(json.dumps(result, indent=1), encoding='utf-8')
    return result


def to_record(
    sample: BaseDataElement, classes: Sequence[str] | None, score_thr: float = 0.0
) -> dict[str, Any]:
    """Return a prediction as values that JSON can hold.

    Args:
        sample: A data sample of :func:`.inference`.
        classes: The names of the classes, in the order of the labels.
        score_thr: The lowest score of a box that is returned.

    Returns:
        ``label``, ``score`` and ``class`` of a classifier; the lists ``labels``, ``scores``,
        ``classes`` and ``bboxes`` (left, top, right, bottom in pixels) of a detector; of a
        segmentor the share of the pixels by class.
    """
    names = dict(enumerate(classes or ()))

    def name(label: int) -> str:
        return str(names.get(label, label))

    if 'pred_instances' in sample:
        found = sample.pred_instances
        found = found[found.scores >= score_thr]
        labels = found.labels.tolist()
        return {
            'labels': labels,
            'classes': [name(label) for label in labels],
            'scores': found.scores.tolist(),
            'bboxes': found.bboxes.tolist(),
        }
    if 'pred_sem_seg' in sample:
        labels, pixels = np.unique(sample.pred_sem_seg.data.numpy(), return_counts=True)
        shares = (pixels / pixels.sum()).tolist()
        return {'share': {name(int(v)): share for v, share in zip(labels, shares, strict=True)}}
    label = int(sample.pred_label)
    return {'label': label, 'class': name(label), 'score': float(sample.pred_score[label])}


def _files(inputs: Sequence[str | os.PathLike], skipped: dict[str, str]) -> Iterator[Path]:
    """Yield the files of the inputs; what is none goes to ``skipped`` with the reason."""
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            files = files_in(path, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
            if not files:
                skipped[str(path)] = f'folder {str(path)!r} has no pictures and no videos'
            yield from files
        elif path.is_file():
            yield path
        else:
            skipped[str(path)] = f'input {str(path)!r} does not exist (looked in {Path.cwd()})'


def _named(files: Iterator[Path]) -> list[tuple[Path, str]]:
    """Give each file the name of its output; those of equal names get a number."""
    taken: set[str] = set()
    pairs = []
    for path in files:
        suffix = path.suffix.lower() or '.png'
        suffix = '.mp4' if suffix in VIDEO_SUFFIXES else suffix
        name = f'{path.stem}{suffix}'
        for number in count(1):
            if name not in taken:
                break
            name = f'{path.stem}_{number}{suffix}'
        taken.add(name)
        pairs.append((path, name))
    return pairs


def _picture(model: BaseModel, path: Path, out: Path, score_thr: float) -> list[dict[str, Any]]:
    sample, record = _predict(model, read_image(path), out, score_thr)
    if 'pred_sem_seg' in sample:
        file = out.with_name(f'{out.stem}_classes.png')
        mmcv.imwrite(sample.pred_sem_seg.data[0].numpy().astype(np.uint8), str(file))
        record['seg_map'] = file.name
    return [record]


def _video(model: BaseModel, path: Path, out: Path, score_thr: float) -> list[dict[str, Any]]:
    frames = mmcv.VideoReader(str(path))
    if not frames.opened or frames.width == 0:
        raise UserError(f'video {str(path)!r} cannot be decoded; give a whole MP4 or AVI file')
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for number, frame in enumerate(frames):
            file = Path(folder, f'{number:06d}.jpg')
            records.append(_predict(model, frame, file, score_thr)[1])
        mmcv.frames2video(folder, str(out), fps=frames.fps, fourcc='mp4v', show_progress=False)
    return records


def _predict(
    model: BaseModel, image: np.ndarray, out: Path, score_thr: float
) -> tuple[BaseDataElement, dict[str, Any]]:
    """Predict one picture and draw the prediction into a file."""
    (sample,) = inference(model, image)
    draw_sample(model, image, sample, out, score_thr)
    return sample, to_record(sample, model.dataset_meta.get('classes'), score_thr)
