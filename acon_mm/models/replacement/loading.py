"""Load the weights of a stock network into the network with other activations."""

import logging
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import nn

from acon_mm.models.activations.acon import ChannelActivation

from .report import shorten


def accept_stock_weights(network: nn.Module) -> None:
    """Let a checkpoint lack the parameters of activations, with a warning that names them.

    This holds for ``load_from``, ``init_cfg`` and ``load_state_dict``: the keys do not count as
    missing. Those activations keep the values that they have.

    Args:
        network: The network. It gets a hook, and so do the parts of a whole model, which may have
            an ``init_cfg`` of their own.
    """
    parts = network.children() if isinstance(network, BaseModel) else ()
    for module in (network, *parts):
        module.register_load_state_dict_post_hook(_warn_of_missing_activations)


def _warn_of_missing_activations(network: nn.Module, incompatible: Any) -> None:
    missing = incompatible.missing_keys
    activations = {n: m for n, m in network.named_modules() if isinstance(m, ChannelActivation)}
    lacking = set()
    # Keys start with the name of the network in what is loaded. The longest first: `relu.p1` is
    # the end of `layer1.0.relu.p1` as well.
    for name in sorted(activations, key=len, reverse=True):
        keys = tuple(f'{name}.{key}' for key in activations[name].state_dict())
        rest = [key for key in missing if not key.endswith(keys)]
        if len(rest) < len(missing):
            lacking.add(name)
            missing[:] = rest
    names = [name for name in activations if name in lacking]
    if names:
        print_log(
            f'The checkpoint has no parameters for {len(names)} activations of '
            f'{type(network).__name__}, which keep their first values: {shorten(names)}',
            logger='current',
            level=logging.WARNING,
        )
