"""Test-time augmentation: the config's own, or a flip for detectors."""

from collections.abc import Iterator
from copy import deepcopy

from mmengine.config import Config, ConfigDict

from acon_mm.errors import UserError

# mmdet's defaults: boxes of both views are merged by NMS. The class lies in mmengine's registry,
# not in mmdet's.
_DETECTOR = {
    'type': 'mmengine.DetTTAModel',
    'tta_cfg': {'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 100},
}


def use_tta(cfg: Config) -> None:
    """Make a config test each image in several views and merge the predictions.

    Args:
        cfg: The config, changed in place. Its ``tta_model`` and ``tta_pipeline`` are used; a
            detector without them is tested with and without a horizontal flip.

    Raises:
        UserError: If another model's config lacks ``tta_model`` or ``tta_pipeline``.
    """
    missing = [key for key in ('tta_model', 'tta_pipeline') if not cfg.get(key)]
    if missing and cfg.get('default_scope') != 'mmdet':
        raise UserError(
            f'tta=True needs {" and ".join(missing)}, which the config does not have; add them, '
            'or test without --tta'
        )
    model = cfg.get('tta_model') or deepcopy(_DETECTOR)
    cfg.model = ConfigDict(**model, module=cfg.model)
    for dataset in _innermost(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.get('tta_pipeline') or _with_flip(dataset.pipeline)


def _innermost(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Yield the datasets that read images, those inside ``ConcatDataset`` and others."""
    wrapped = [dataset.dataset] if 'dataset' in dataset else dataset.get('datasets')
    if wrapped is None:
        yield dataset
        return
    for part in wrapped:
        yield from _innermost(part)


def _with_flip(pipeline: list) -> list:
    """Replace the packing at the end of a detector's pipeline by packing both views."""
    views = [{'type': 'mmdet.RandomFlip', 'prob': prob} for prob in (1.0, 0.0)]
    # Its default keys have the flip, those of a test pipeline do not.
    pack = {'type': 'mmdet.PackDetInputs'}
    return [*pipeline[:-1], {'type': 'mmcv.TestTimeAug', 'transforms': [views, [pack]]}]
