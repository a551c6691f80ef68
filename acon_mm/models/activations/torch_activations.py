"""torch's activations of Table 4 that mmcv does not register."""

from torch import nn

from acon_mm.registry import MODELS

MODELS.register_module(module=nn.Mish)
MODELS.register_module(module=nn.Softplus)
