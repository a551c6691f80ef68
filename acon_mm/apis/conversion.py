"""Converting the authors' released files and back, by the name of a model."""

import os
from pathlib import Path

from acon_mm.checkpoints.official_names import OFFICIAL_NAMES
from acon_mm.checkpoints.official_weights import OfficialLayout
from acon_mm.checkpoints.reading import load_from_local
from acon_mm.checkpoints.state_dict import state_dict_of
from acon_mm.checkpoints.writing import save_whole
from acon_mm.errors import UserError

from .models import get_model

# The input that their networks were trained on: BGR as it is read.
PREPROCESSING = {'channel_order': 'BGR', 'value_range': [0, 255], 'mean': None, 'std': None}


def convert_official(
    src: str | os.PathLike, dst: str | os.PathLike, model: str, reverse: bool = False
) -> None:
    """Convert a checkpoint of the authors to ours, or the other way round.

    ``dst`` gets ``state_dict`` and ``meta``, which holds the name of the source file, the model
    and the preprocessing. Our ``state_dict`` is that of mmpretrain's ``ImageClassifier``, so
    ``init_cfg=dict(type='Pretrained', checkpoint=dst, prefix='backbone.')`` loads its backbone.

    Args:
        src: The file to read: a state dict, or one under ``state_dict``; a prefix ``module.`` of
            all its keys is left out.
        dst: The file to write. It is written whole or not at all.
        model: The name of one of the models that the authors' code builds, such as
            ``'resnet50_metaacon'``; they released the weights of most of them.
        reverse: Whether ``src`` is ours and ``dst`` gets the authors' layout; its network has
            the same outputs in evaluation mode.

    Raises:
        UserError: If the model is unknown, ``src`` cannot be read or does not fit the model (the
            first differing key is named), or ``dst`` cannot be written.
        CheckpointRefusedError: If ``src`` holds anything but tensors and logged numbers; nothing
            of it was run.
    """
    if model not in OFFICIAL_NAMES:
        raise UserError(
            f"model={model!r} is not built by the authors' code; use one of "
            f'{", ".join(OFFICIAL_NAMES)}'
        )
    source = Path(src).expanduser()
    if Path(dst).expanduser().resolve() == source.resolve():
        raise UserError(f'dst is {str(dst)!r}, the same file as src; name another file to write')
    state_dict = state_dict_of(load_from_local(source, map_location='cpu'), source)
    layout = OfficialLayout(get_model(model).state_dict(), OFFICIAL_NAMES[model])
    try:
        convert = layout.to_official if reverse else layout.to_ours
        converted = convert(state_dict)
    except UserError as error:
        whose = 'our' if reverse else "the authors'"
        raise UserError(f'{str(source)!r} is not {whose} {model}: {error}') from error
    meta = {'source': source.name, 'model': model, 'preprocessing': PREPROCESSING}
    save_whole({'meta': meta, 'state_dict': converted}, dst)
