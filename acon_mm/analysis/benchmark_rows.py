"""The rows of the two benchmarks: the activations that are compared."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from acon_mm.models import AconC, MetaAcon
from acon_mm.ops.formula import acon_formula

from .published import PublishedAconC, PublishedMetaAcon


class FormulaAconC(AconC):
    """ACON-C by the tidied formula in plain torch operations, differentiated by autograd."""

    def forward(self, x: Tensor) -> Tensor:
        return acon_formula(x, self.p1, self.p2, self.beta)


@dataclass(frozen=True)
class Row:
    """An activation by itself.

    Attributes:
        label: What the tables call it.
        build: Makes the module from the number of channels.
        passes: How many times the bytes of its input it has to read and write at least, forward
            and backward.
        every: It runs in every this many rounds.
        one_pixel: Whether it gets a map of one sample and one pixel instead, beside the map that
            the others get: what is left is the cost of a call, whatever the map's size.
    """

    label: str
    build: Callable[[int], nn.Module]
    passes: tuple[int, int] = (2, 3)
    every: int = 1
    one_pixel: bool = False


REFERENCE = 'silu'

# The formulas in plain torch operations would take most of the time, and are so far off that a
# third of the timings says it.
SELDOM = 3

# Meta-ACON reads its input once more, for the mean; its backward pass reads the input and the
# gradient twice, since the mean's gradient is known only after the switching factor's.
META = (3, 5)
NOTHING = (0, 0)

ROWS = {
    'relu': Row('ReLU', lambda channels: nn.ReLU()),
    'silu': Row('SiLU', lambda channels: nn.SiLU()),
    'prelu': Row('PReLU', nn.PReLU),
    'published_aconc': Row('ACON-C, published', PublishedAconC, every=SELDOM),
    'published_metaacon': Row('Meta-ACON, published', PublishedMetaAcon, META, every=SELDOM),
    'formula': Row('ACON-C, tidied formula', FormulaAconC, every=SELDOM),
    'compiled': Row(
        'ACON-C, `torch.compile`',
        lambda channels: torch.compile(FormulaAconC(channels), dynamic=False),
    ),
    'aconc': Row('ACON-C', AconC),
    'metaacon': Row('Meta-ACON', MetaAcon, META),
    'silu_call': Row('SiLU, one pixel', lambda channels: nn.SiLU(), NOTHING, one_pixel=True),
    'aconc_call': Row('ACON-C, one pixel', AconC, NOTHING, one_pixel=True),
}


@dataclass(frozen=True)
class NetworkRow:
    """An activation inside a network.

    Attributes:
        label: What the tables call it.
        act_cfg: Its config, None for the network's own.
        is_meta: Whether it takes the network's reduction.
        every: It runs in every this many rounds.
    """

    label: str
    act_cfg: dict | None
    is_meta: bool = False
    every: int = 1


NETWORK_REFERENCE = 'relu'

NETWORK_ROWS = {
    'relu': NetworkRow('ReLU', None),
    # Not in place, which would copy what the backward pass needs.
    'silu': NetworkRow('SiLU', dict(type='SiLU', inplace=False)),
    'published_aconc': NetworkRow('ACON-C, published', dict(type=PublishedAconC), every=SELDOM),
    'published_metaacon': NetworkRow(
        'Meta-ACON, published', dict(type=PublishedMetaAcon), is_meta=True, every=SELDOM
    ),
    'aconc': NetworkRow('ACON-C', dict(type='acon_mm.AconC')),
    'metaacon': NetworkRow('Meta-ACON', dict(type='acon_mm.MetaAcon'), is_meta=True),
}
