"""The norms inside activations: mmcv's, or torch's where mmcv is not installed."""

from torch import nn

from acon_mm._stack import has_openmmlab
from acon_mm.registry import MODELS


def build_norm(norm_cfg: dict, num_channels: int) -> nn.Module:
    """Build a norm as mmcv's ``build_norm_layer`` does.

    Args:
        norm_cfg: A config with the key ``type``, such as ``dict(type='BN', requires_grad=False)``.
        num_channels: The size of dimension 1 of its inputs.

    Returns:
        The norm. Without mmcv it is one of torch, with ``eps=1e-5`` unless the config names one.

    Raises:
        KeyError: If there is no ``type``, or none of that name.
        TypeError: If the class does not take an argument of it.

    Examples:
        >>> build_norm(dict(type='BN', momentum=0.01), 8).num_features
        8
    """
    if has_openmmlab():
        from mmcv.cnn import build_norm_layer

        return build_norm_layer(norm_cfg, num_channels)[1]
    args = dict(norm_cfg)
    kind = args.pop('type')
    requires_grad = args.pop('requires_grad', True)
    args.setdefault('eps', 1e-5)
    cls = kind if isinstance(kind, type) else MODELS.get(kind)
    if cls is None:
        raise KeyError(f'torch has no norm {kind!r}')
    width = 'num_channels' if issubclass(cls, nn.GroupNorm) else None
    norm = cls(**args, **{width: num_channels}) if width else cls(num_channels, **args)
    norm.requires_grad_(requires_grad)
    return norm
