"""Build an activation from a config and the channel count that its block knows."""

import inspect

from torch import nn

from acon_mm.registry import MODELS

OWN_TYPES = tuple(
    f'acon_mm.{name}' for name in ('AconA', 'AconB', 'AconC', 'MetaAcon', 'AconFReLU')
)


def build_activation(act_cfg: dict, num_channels: int, norm_cfg: dict | None = None) -> nn.Module:
    """Build an activation layer for a feature map of ``num_channels`` channels.

    mmcv's ``build_activation_layer`` passes no channel count, which per-channel activations need.
    This function passes it to every class that has the argument ``num_channels``, and, as mmcv's
    ``ConvModule`` does, ``inplace=True`` to classes that have the argument ``inplace``.
    Activations with norms of their own, MetaAcon and AconFReLU, get the network's ``norm_cfg``
    unless ``act_cfg`` names one; ``norm_cfg=None`` in ``act_cfg`` stands for no norm.

    Args:
        act_cfg: A config with the key ``type``: ``'acon_mm.MetaAcon'``, ``'ReLU'``, or any other
            activation in mmengine's registry.
        num_channels: The size of dimension 1 of the activation's input.
        norm_cfg: The config of the norms of the network around the activation, with all of its
            keys, such as ``requires_grad``. None if it has none: the default of the class holds.

    Returns:
        The activation module.

    Raises:
        ValueError: If ``act_cfg`` is no dict, has no ``type``, names one that is not registered,
            or the class does not take an argument of it; or if the activation cannot take the
            network's norm, see :meth:`MetaAcon.check_norm_of_network`.

    Examples:
        >>> build_activation(dict(type='acon_mm.AconC'), 8)
        AconC(8, init='paper')
        >>> build_activation(dict(type='ReLU'), 8)
        ReLU(inplace=True)
    """
    if not isinstance(act_cfg, dict) or 'type' not in act_cfg:
        raise ValueError(
            f"act_cfg must be a dict with the key 'type', such as "
            f"dict(type='acon_mm.MetaAcon') or dict(type='ReLU'), but it is {act_cfg!r}"
        )
    args = dict(act_cfg)
    kind = args.pop('type')
    cls = kind if isinstance(kind, type) else MODELS.get(kind)
    if cls is None:
        raise ValueError(
            f'act_cfg names the type {kind!r}, which is not registered: use one of '
            f"{', '.join(OWN_TYPES)}, or an activation of torch such as 'ReLU' or 'SiLU'"
        )
    args.pop('_scope_', None)  # mmengine adds it to what a config inherits from a package
    signature = inspect.signature(cls)
    if 'num_channels' in signature.parameters:
        args.setdefault('num_channels', num_channels)
    if 'inplace' in signature.parameters:
        args.setdefault('inplace', True)
    if norm_cfg is not None and 'norm_cfg' in signature.parameters and 'norm_cfg' not in args:
        args['norm_cfg'] = norm_cfg
        if hasattr(cls, 'check_norm_of_network'):
            cls.check_norm_of_network(act_cfg, norm_cfg)
    try:
        signature.bind(**args)
    except TypeError as error:
        raise ValueError(f'act_cfg {act_cfg!r} does not fit {kind}: {error}') from error
    return cls(**args)
