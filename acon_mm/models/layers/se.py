"""Squeeze-and-excitation (https://arxiv.org/abs/1709.01507), what Table 6 compares with."""

from mmpretrain.models.utils import SELayer
from torch import nn


def build_se(se_ratio: int | None, num_channels: int) -> nn.Module:
    """Build mmpretrain's squeeze-and-excitation layer, with its own ReLU and sigmoid.

    Args:
        se_ratio: What the number of channels is divided by in between, None for no such layer.
        num_channels: The size of dimension 1 of the input.

    Returns:
        The layer, or, for None, an ``nn.Identity``, which has no state. Either maps
        ``(N, num_channels, H, W)`` to the same shape.

    Raises:
        ValueError: If ``se_ratio`` is neither None nor a positive integer.
    """
    if se_ratio is None:
        return nn.Identity()
    # True is an int as well, but a ratio of 1 is not what it means.
    if not isinstance(se_ratio, int) or isinstance(se_ratio, bool) or se_ratio < 1:
        raise ValueError(f'se_ratio must be None or a positive integer, but it is {se_ratio!r}')
    return SELayer(num_channels, ratio=se_ratio)
