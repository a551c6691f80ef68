"""Turn on the pictures of a test, in whichever of the three libraries."""

import os
from pathlib import Path

from mmengine.config import Config

from acon_mm.errors import UserError
from acon_mm.registry import type_name


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
