"""Finding the tensors in what a checkpoint file holds."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from acon_mm.errors import UserError


def state_dict_of(content: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    """Return the state dict of what a file holds, without the prefix of ``DataParallel``.

    Args:
        content: A state dict, or a mapping with one under ``state_dict``.
        path: The file, for the message.

    Returns:
        The tensors by name. A prefix ``module.`` of all names is left out.

    Raises:
        UserError: If the file holds something else, such as a single tensor.
    """
    if isinstance(content, Mapping) and isinstance(content.get('state_dict'), Mapping):
        content = content['state_dict']
    is_state_dict = isinstance(content, Mapping) and all(
        isinstance(key, str) and torch.is_tensor(value) for key, value in content.items()
    )
    if not is_state_dict or not content:
        raise UserError(
            f'{str(path)!r} holds no state dict: expected are tensors by name, at the top or '
            "under the key 'state_dict'"
        )
    if all(key.startswith('module.') for key in content):
        return {key.removeprefix('module.'): value for key, value in content.items()}
    return dict(content)
