"""Start ACON from what it replaces, so that a trained network still computes the same.

With the values set here the largest differences over all inputs are

=================  ==================  =======================================
Activation         ``p2``, ``beta``    largest difference
=================  ==================  =======================================
ReLU               0, 1000             0.00028
LeakyReLU, PReLU   slope, 1000         0.00028
SiLU, Swish        0, 1                0
QuickGELU          0, 1.702            0
GELU               0, 1.702            0.0203
=================  ==================  =======================================

``p1`` is 1. ReLU6 is taken for ReLU: they are the same up to 6.
"""

import torch
from torch import nn

from acon_mm.errors import UserError
from acon_mm.models.activations import AconA, AconB
from acon_mm.models.activations.acon import LIKE
from acon_mm.registry import MODELS

_INITS = {
    'relu_like': ('ReLU', 'ReLU6', 'LeakyReLU', 'PReLU'),
    'silu_like': ('SiLU', 'Swish'),
    'gelu_like': ('GELU', 'QuickGELU'),
}


def start_like(act_cfg: dict, replaced: nn.Module) -> dict:
    """Return the config of an activation that starts close to a given one.

    Args:
        act_cfg: The config of AconA, AconB, AconC or a channel-wise MetaAcon.
        replaced: The activation that it replaces.

    Raises:
        UserError: If ACON comes close to ``replaced`` with no value.
    """
    name = type(replaced).__name__
    init = next((init for init, names in _INITS.items() if name in names), None)
    kind = act_cfg.get('type')
    is_acon_a = (kind if isinstance(kind, type) else MODELS.get(str(kind))) is AconA
    if init is None or (is_acon_a and isinstance(replaced, (nn.LeakyReLU, nn.PReLU))):
        raise UserError(
            f'like_replaced must be False where {name} is replaced by {kind}, '
            'which comes close to it with no value; or leave it with where_not or replace'
        )
    return dict(act_cfg, beta=LIKE[init]) if is_acon_a else dict(act_cfg, init=init)


@torch.no_grad()
def copy_slope(new: nn.Module, replaced: nn.Module) -> None:
    """Give an activation the slope for negative inputs of the one that it replaces, if it has."""
    slopes = new.p if isinstance(new, AconB) else getattr(new, 'p2', None)
    if isinstance(slopes, nn.Parameter):
        if isinstance(replaced, nn.LeakyReLU):
            slopes.fill_(replaced.negative_slope)
        elif isinstance(replaced, nn.PReLU):
            slopes.copy_(replaced.weight.expand_as(slopes))
