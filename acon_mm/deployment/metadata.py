"""What a file says about itself: how its input is made and what its classes are called."""

import json
from pathlib import Path

import torch
from mmengine.model import BaseModel

from acon_mm.version import __version__

SWAPS = ('to_rgb', 'channel_conversion', '_channel_conversion')
"""What the preprocessors of mmpretrain, mmsegmentation and mmdet call the change of channels."""


def metadata_of(model: BaseModel) -> dict[str, str]:
    """Describe a model of :func:`acon_mm.apis.get_model` for who runs it without its config.

    Args:
        model: The model.

    Returns:
        Texts by name: ``config``, ``task`` (the library), ``acon_mm`` (its version) and, as JSON,
        ``mean`` and ``std`` (one number a channel, in the order of the channels; null without
        normalisation), ``swap_channels`` (whether the network takes the channels in the other
        order than the test pipeline reads them, which is BGR for OpenCV), ``size_divisor``
        (height and width are padded to a multiple of it), ``classes``, and ``score_threshold``
        (of a detector's ``test_cfg``, else null).
    """
    preprocessor = model.data_preprocessor
    constants = {
        key: value.flatten().tolist() if torch.is_tensor(value) else None
        for key, value in ((key, getattr(preprocessor, key, None)) for key in ('mean', 'std'))
    }
    test_cfg = getattr(preprocessor, 'test_cfg', None) or {}  # of mmsegmentation
    divisor = test_cfg.get('size_divisor') or getattr(preprocessor, 'pad_size_divisor', 1)
    values = {
        **constants,
        'swap_channels': any(getattr(preprocessor, key, False) for key in SWAPS),
        'size_divisor': divisor,
        'score_threshold': (model.cfg.model.get('test_cfg') or {}).get('score_thr'),
        'classes': list(model.dataset_meta.get('classes') or []),
    }
    texts = {key: json.dumps(value) for key, value in values.items()}
    name = Path(model.cfg.filename or '').name
    return {'acon_mm': __version__, 'config': name, 'task': model.cfg.default_scope, **texts}
