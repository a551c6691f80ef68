"""Predictions of several models side by side, those first on which they disagree most."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, DefaultScope

from acon_mm.apis.inference import read_image
from acon_mm.errors import UserError

from .figures import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAME_OBJECT_IOU = 0.5
MIN_LABELLED_PIXELS = 30


@dataclass
class Boxes:
    """Objects in a picture: ``bboxes`` of shape (K, 4) in pixels, ``labels`` and ``scores``."""

    bboxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


@dataclass
class Compared:
    """A test picture, its truth and what each model predicts: boxes, or a label per pixel.

    Attributes:
        path: The file of the picture.
        truth: :class:`Boxes`, or labels of shape ``(H, W)``, 255 where there is none.
        predictions: The same of each model, by its title.
        disagreement: From 0 to 1, the mean over all pairs of models.
    """

    path: str
    truth: Any
    predictions: dict[str, Any]
    disagreement: float


def compare_models(
    models: Mapping[str, BaseModel],
    limit: int | None = None,
    score_thr: float = 0.3,
    track: Callable[[Iterable], Iterable] = iter,
) -> list[Compared]:
    """Predict the test pictures with several detectors or segmentors and compare them.

    Args:
        models: Two or more models of :func:`acon_mm.apis.get_model` by their titles, of one task
            and the same classes. The test data is that of the first one's config.
        limit: How many test pictures are read. Defaults to all.
        score_thr: The lowest score of a box that counts.
        track: Shows the progress over the pictures.

    Returns:
        The pictures, sorted by how much the models disagree: the share of the pixels, or of the
        boxes, that another model labels differently or does not find.

    Raises:
        UserError: If there are fewer than two models, or they are neither detectors nor
            segmentors of one task.
    """
    first = next(iter(models.values()))
    scopes = {model.cfg.default_scope for model in models.values()}
    if len(models) < 2 or len(scopes) != 1 or not scopes <= {'mmdet', 'mmseg'}:
        raise UserError(
            f'{len(models)} models of {", ".join(sorted(scopes))} cannot be compared; give two or '
            'more detectors of mmdet, or segmentors of mmseg'
        )
    with DefaultScope.overwrite_default_scope(first.cfg.default_scope):
        dataset = DATASETS.build(first.cfg.test_dataloader.dataset)
        found = []
        for index in track(range(min(len(dataset), limit or len(dataset)))):
            batch = pseudo_collate([dataset[index]])
            sample = batch['data_samples'][0]
            truth = _truth(sample)
            predictions = {}
            for title, model in models.items():
                with torch.no_grad():
                    predictions[title] = _predicted(model.test_step(batch)[0].cpu(), score_thr)
            values = [disagreement(*pair) for pair in combinations(predictions.values(), 2)]
            found.append(Compared(sample.img_path, truth, predictions, float(np.mean(values))))
    return sorted(found, key=lambda compared: -compared.disagreement)


def disagreement(one: Any, other: Any) -> float:
    """Return the share of pixels or boxes that two predictions do not have in common.

    A box is in common if one of the same label overlaps it by an IoU of at least 0.5; each is
    matched once.
    """
    if not isinstance(one, Boxes):
        return float((one != other).mean())
    total = len(one.labels) + len(other.labels)
    free = list(range(len(other.labels)))
    matched = 0
    for box, label in zip(one.bboxes, one.labels, strict=True):
        same = [i for i in free if other.labels[i] == label]
        best = max(same, key=lambda i: _iou(box, other.bboxes[i]), default=None)
        if best is not None and _iou(box, other.bboxes[best]) >= SAME_OBJECT_IOU:
            free.remove(best)
            matched += 1
    return (total - 2 * matched) / total if total else 0.0


def draw_comparison(
    compared: Sequence[Compared], classes: Sequence[str], palette: Sequence | None = None
) -> 'Figure':
    """Draw a row for each picture: the truth, then each model.

    Args:
        compared: Pictures of :func:`compare_models`.
        classes: The names of the classes.
        palette: The RGB colours of a segmentor's classes, from 0 to 255.
    """
    titles = ['truth', *compared[0].predictions]
    with new_figure(2.6 * len(titles), 0.5 + 2.7 * len(compared)) as figure:
        rows = figure.subplots(len(compared), len(titles), squeeze=False)
        for panels, item in zip(rows, compared, strict=True):
            image = read_image(item.path)[..., ::-1]
            answers = (item.truth, *item.predictions.values())
            for axes, title, answer in zip(panels, titles, answers, strict=True):
                axes.set_axis_off()
                if isinstance(answer, Boxes):
                    axes.imshow(image)
                    _draw_boxes(axes, answer, classes)
                else:
                    _draw_labels(axes, image, answer, classes, palette)
                if axes in rows[0]:
                    axes.set_title(title)
    return figure


def _truth(sample: Any) -> Any:
    if 'gt_sem_seg' in sample:
        return sample.gt_sem_seg.data[0].numpy()
    found = sample.gt_instances
    boxes = getattr(found.bboxes, 'tensor', found.bboxes)
    return Boxes(boxes.numpy(), found.labels.numpy())


def _predicted(sample: Any, score_thr: float) -> Any:
    if 'pred_sem_seg' in sample:
        return sample.pred_sem_seg.data[0].numpy()
    found = sample.pred_instances
    found = found[found.scores >= score_thr]
    return Boxes(found.bboxes.numpy(), found.labels.numpy(), found.scores.numpy())


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    inner = float(np.prod(np.maximum(sides, 0)))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (one, other))
    return inner / max(areas - inner, 1e-9)


def _draw_boxes(axes: 'Axes', boxes: Boxes, classes: Sequence[str]) -> None:
    from matplotlib.patches import Rectangle

    for index, (box, label) in enumerate(zip(boxes.bboxes, boxes.labels, strict=True)):
        colour = COLOURS[int(label) % 6]
        left, top, right, bottom = box
        size = right - left, bottom - top
        axes.add_patch(Rectangle((left, top), *size, fill=False, color=colour, linewidth=2))
        score = '' if boxes.scores is None else f' {boxes.scores[index]:.2f}'
        _write(axes, left, top, f'{classes[int(label)]}{score}', colour)


def _draw_labels(
    axes: 'Axes',
    image: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    palette: Sequence | None,
) -> None:
    """Lay the colours of the classes over a picture and write their names on the regions."""
    colours = np.zeros((256, 3))
    if palette is not None:
        colours[: len(palette)] = palette
    axes.imshow((0.35 * image + 0.65 * colours[labels]).astype(np.uint8))
    background = np.bincount(labels.flatten()).argmax()
    for label in set(np.unique(labels).tolist()) - {int(background), 255}:
        _, _, stats, centres = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8))
        for (*_, area), (x, y) in zip(stats[1:], centres[1:], strict=True):
            if area >= MIN_LABELLED_PIXELS:
                _write(axes, x, y, classes[label], '#000000')


def _write(axes: 'Axes', x: float, y: float, text: str, colour: str) -> None:
    box = {'facecolor': colour, 'edgecolor': 'none', 'pad': 1.5, 'alpha': 0.85}
    axes.text(x, y, text, color='white', fontsize=11, bbox=box, clip_on=True)
