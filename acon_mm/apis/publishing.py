"""From the checkpoint of a run to a file with the weights alone."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acon_mm.checkpoints.reading import load_from_local
from acon_mm.checkpoints.record import digest_of
from acon_mm.checkpoints.state_dict import state_dict_of
from acon_mm.checkpoints.writing import save_whole, write_whole
from acon_mm.errors import UserError, requires_extra
from acon_mm.version import __version__

KEPT_META = ('dataset_meta', 'cfg', 'epoch', 'iter', 'experiment_name', 'source', 'model')
"""What stays of a checkpoint's ``meta``; the preprocessing of converted weights stays, too."""


def publish_model(
    in_file: str | os.PathLike,
    out_file: str | os.PathLike,
    no_ema: bool = False,
    safetensors: bool = False,
) -> list[Path]:
    """Write the weights of a checkpoint without what only a training needs.

    The file holds ``state_dict`` and ``meta``: the names of the classes, the config, the epoch,
    and ``sha256``, the hash of the weights. The first eight digits of the file's own SHA-256 go
    into its name, ``out_file-0123abcd.pth``, as ``torch.hub`` checks it.

    Args:
        in_file: The checkpoint, read by the allow-list.
        out_file: Where to write; the name ends in ``.pth``.
        no_ema: Whether to take the weights that were trained instead of their moving average,
            from a checkpoint that has both.
        safetensors: Whether to write ``out_file-0123abcd.safetensors`` as well, which holds the
            tensors and the ``meta`` as texts.

    Returns:
        The files.

    Raises:
        UserError: If ``in_file`` holds no state dict or no moving average that ``no_ema`` asks
            for, ``out_file`` has another ending or cannot be written, or the package safetensors
            is missing.
        CheckpointRefusedError: If ``in_file`` asks for a global outside the allow-list.
    """
    out = Path(out_file).expanduser()
    if out.suffix != '.pth':
        raise UserError(f"out_file={str(out)!r} must end in '.pth'")
    checkpoint = load_from_local(in_file, map_location='cpu')
    weights = state_dict_of(checkpoint, in_file)
    if no_ema:
        weights |= _trained(checkpoint, weights, in_file)
    # A copy of its own: a tensor that shares its storage would be written with all of that.
    weights = {name: value.detach().clone().contiguous() for name, value in weights.items()}
    meta = {**_kept(checkpoint), 'acon_mm_version': __version__, 'sha256': _hash(weights)}
    tensors = _safetensors(weights, meta) if safetensors else None
    temporary = out.with_name(f'.{out.stem}.publishing.pth')
    save_whole({'meta': meta, 'state_dict': weights}, temporary)
    digest = digest_of(temporary)[:8]
    paths = [out.with_name(f'{out.stem}-{digest}.pth')]
    os.replace(temporary, paths[0])
    if tensors is not None:
        paths.append(paths[0].with_suffix('.safetensors'))
        write_whole(paths[1], lambda file: file.write(tensors))
    return paths


def _trained(
    checkpoint: dict[str, Any], weights: dict[str, Tensor], path: str | os.PathLike
) -> dict[str, Tensor]:
    """Return the weights that mmengine put aside for their moving average."""
    average = checkpoint.get('ema_state_dict') or {}
    prefix = 'module.'
    found = {k.removeprefix(prefix): v for k, v in average.items() if k.startswith(prefix)}
    if not found or not found.keys() <= weights.keys():
        raise UserError(
            f'checkpoint {str(path)!r} has no ema_state_dict of its model, which --no-ema takes '
            'the weights from; leave it out'
        )
    return found


def _kept(checkpoint: dict[str, Any]) -> dict[str, Any]:
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    return {key: meta[key] for key in (*KEPT_META, 'preprocessing') if key in meta}


def _hash(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _safetensors(weights: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    with requires_extra('deploy', '--safetensors'):
        from safetensors.torch import save
    texts = {k: v if isinstance(v, str) else json.dumps(v, default=list) for k, v in meta.items()}
    return save(weights, {'format': 'pt', **texts})
