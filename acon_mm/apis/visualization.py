"""Pictures with predictions, in whichever of the three libraries."""

import os
from itertools import count
from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import VISUALIZERS, DefaultScope
from mmengine.structures import BaseDataElement

from acon_mm.errors import UserError
from acon_mm.registry import type_name

MIN_TEXT_EDGE = 224
"""Pixels of the shorter edge that the text of a classifier's picture needs."""

# mmengine's visualizers want a name of their own, once per process.
_numbers = count()


def draw_predictions(
    cfg: Config, show_dir: str | os.PathLike | None, show: bool = False, wait_time: float = 2.0
) -> None:
    """Let the visualization hook of a config draw every test image.

    Of several processes only the first one draws, the images of its own share.

    Args:
        cfg: The config, changed in place.
        show_dir: The folder that the pictures go to; mmsegmentation puts them into
            ``vis_data/vis_image`` below it.
        show: Whether to show the pictures in a window.
        wait_time: Seconds that each picture is shown.

    Raises:
        UserError: If ``default_hooks.visualization`` is none of the three libraries' hooks.
    """
    hook = cfg.get('default_hooks', {}).get('visualization') or {}
    kind = type_name(hook.get('type', 'none'))
    # mmdet's hook writes below the work dir unless the path is absolute.
    folder = None if show_dir is None else str(Path(show_dir).expanduser().absolute())
    if kind == 'DetVisualizationHook':
        hook.update(draw=True, test_out_dir=folder)
    elif kind == 'SegVisualizationHook':
        hook.update(draw=True, interval=1)
        if folder:
            cfg.visualizer.update(save_dir=folder, vis_backends=[{'type': 'LocalVisBackend'}])
    elif kind == 'VisualizationHook':
        hook.update(enable=True, interval=1, out_dir=folder)
    else:
        raise UserError(
            f'show_dir and show need a visualization hook, but default_hooks.visualization is '
            f'{kind!r}; set it to mmdet.DetVisualizationHook, mmseg.SegVisualizationHook or '
            'mmpretrain.VisualizationHook'
        )
    if show:
        hook.update(show=True, wait_time=wait_time)


def draw_sample(
    model: BaseModel,
    image: np.ndarray,
    sample: BaseDataElement,
    out_file: str | os.PathLike,
    score_thr: float = 0.3,
) -> None:
    """Draw the prediction for a picture with the visualizer of the model's library.

    Args:
        model: The model of :func:`.get_model`.
        image: The picture, ``(H, W, 3)`` of uint8 in the order BGR.
        sample: What :func:`.inference` predicted for it.
        out_file: The file to write, in the format of its suffix.
        score_thr: The lowest score of a box that is drawn.
    """
    meta, scope = model.dataset_meta, model.cfg.default_scope
    with DefaultScope.overwrite_default_scope(scope):
        kind = model.cfg.visualizer.type
        visualizer = VISUALIZERS.build({'type': kind, 'name': f'draw_sample_{next(_numbers)}'})
    options = {'draw_gt': False, 'out_file': os.fspath(out_file)}
    picture = mmcv.bgr2rgb(image)
    if scope == 'mmpretrain':
        # The text needs a picture of some size.
        resize = None if min(image.shape[:2]) >= MIN_TEXT_EDGE else MIN_TEXT_EDGE
        visualizer.visualize_cls(picture, sample, meta.get('classes'), resize=resize, **options)
        return
    visualizer.dataset_meta = {'palette': 'random', **meta}
    if scope == 'mmdet':
        options['pred_score_thr'] = score_thr
    visualizer.add_datasample('', picture, sample, **options)
