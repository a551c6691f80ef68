"""ACON-A, -B and -C of *Activate or Not* (https://arxiv.org/abs/2009.04759), Table 1.

All are the smooth maximum of two lines through the origin: of ``x`` and 0 (ACON-A, which is
Swish), of ``x`` and ``p * x`` (ACON-B), of ``p1 * x`` and ``p2 * x`` (ACON-C).

Every module accepts ``inplace`` and ignores it: mmcv's ``ConvModule`` adds that argument to the
config of any activation it does not know.
"""

from typing import Final

import torch
from torch import Tensor, nn

from acon_mm.ops import acon
from acon_mm.ops.acon import takes_formula
from acon_mm.ops.formula import fold_acon, folded_acon_formula
from acon_mm.registry import MODELS

INITS = ('paper', 'normal')


class ChannelActivation(nn.Module):
    """Hold what all activations of the family share: a number of channels.

    Args:
        num_channels: The size of dimension 1 of the inputs, at least 1.

    Raises:
        ValueError: If ``num_channels`` is not a positive integer.
    """

    deploy: Final[bool]  # a constant for torch.jit.script

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        if not isinstance(num_channels, int) or num_channels < 1:
            raise ValueError(
                f'num_channels must be a positive integer, but it is {num_channels!r}'
            )
        self.num_channels = num_channels
        self.deploy = False

    def switch_to_deploy(self) -> None:
        """Freeze the parameters and compute once what inference would compute of them each time.

        As with mmpretrain's modules that have this method, batch norms count with their running
        statistics, whatever the mode, and a second call does nothing. There is no way back. A
        module in this form loads the state of another one in this form.
        """
        if not self.deploy:
            self.requires_grad_(False)
            self.fold()
            self.deploy = True

    def fold(self) -> None:
        """Compute what is constant; nothing, unless a class has something to fold."""

    def extra_repr(self) -> str:
        return f'{self.num_channels}'


class ConstantFactorActivation(ChannelActivation):
    """Fold slopes and a switching factor that do not depend on the input.

    The kernels compute ``p1 - p2`` and ``beta * (p1 - p2)`` in registers, once per channel: they
    still take the parameters and gain nothing. The graph of a tracer, exporter or compiler gains:
    it gets both as constants in the shape it needs.
    """

    def constants(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """Return ``p1``, ``p2`` and ``beta``, numbers or tensors of shape ``(C,)``."""
        raise NotImplementedError(f'{type(self).__name__} must name its parameters')

    def fold(self) -> None:
        """Set the buffers ``d``, ``beta_d`` and ``folded_p2``, which are not in the state."""
        for name, value in zip(
            ('d', 'beta_d', 'folded_p2'), fold_acon(*self.constants()), strict=True
        ):
            self.register_buffer(name, value, persistent=False)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if self.deploy:
            self.fold()


@MODELS.register_module()
class AconA(ConstantFactorActivation):
    """Apply ACON-A, ``x * sigmoid(beta * x)``, known as Swish (the text after Eq. 2).

    Args:
        num_channels: The number of channels ``C``.
        beta: The switching factor, or what it starts from. 1 is ``nn.SiLU``.
        learnable: Whether the switching factor is a parameter of shape ``(C,)``. Otherwise it
            stays the number ``beta`` and the module has no state.
        inplace: Ignored.

    Shape:
        - Input: ``(N, C, ...)``, any float dtype.
        - Output: shape and dtype of the input.
    """

    def __init__(
        self,
        num_channels: int,
        beta: float = 1.0,
        learnable: bool = True,
        inplace: bool = False,
    ) -> None:
        super().__init__(num_channels)
        self.init_beta = beta
        self.learnable = learnable
        if learnable:
            self.beta = nn.Parameter(torch.empty(num_channels))
            self.reset_parameters()
        else:
            self.beta = float(beta)  # torch.jit.script would read 1 as an integer

    def reset_parameters(self) -> None:
        """Set the switching factors to their first value."""
        if self.learnable:
            nn.init.constant_(self.beta, self.init_beta)

    def constants(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """Return ``p1``, ``p2`` and ``beta``."""
        return 1.0, 0.0, self.beta

    def forward(self, x: Tensor) -> Tensor:
        if self.deploy and takes_formula(x):
            return folded_acon_formula(x, None, self.beta_d, None)
        return acon(x, 1.0, 0.0, self.beta)

    def extra_repr(self) -> str:
        return f'{self.num_channels}, beta={self.init_beta}, learnable={self.learnable}'


@MODELS.register_module()
class AconB(ConstantFactorActivation):
    """Apply ACON-B, ``(1 - p) * x * sigmoid(beta * (1 - p) * x) + p * x`` (Eq. 3).

    It smooths PReLU. The parameters ``p`` and ``beta`` have the shape ``(C,)`` and start from
    0.25, as PReLU's slope does, and from 1.

    Args:
        num_channels: The number of channels ``C``.
        inplace: Ignored.

    Shape:
        - Input: ``(N, C, ...)``, any float dtype.
        - Output: shape and dtype of the input.
    """

    def __init__(self, num_channels: int, inplace: bool = False) -> None:
        super().__init__(num_channels)
        self.p = nn.Parameter(torch.empty(num_channels))
        self.beta = nn.Parameter(torch.empty(num_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set ``p`` to 0.25 and ``beta`` to 1."""
        nn.init.constant_(self.p, 0.25)
        nn.init.ones_(self.beta)

    def constants(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """Return ``p1``, ``p2`` and ``beta``."""
        return 1.0, self.p, self.beta

    def forward(self, x: Tensor) -> Tensor:
        if self.deploy and takes_formula(x):
            return folded_acon_formula(x, self.d, self.beta_d, self.folded_p2)
        return acon(x, 1.0, self.p, self.beta)


class TwoSlopeActivation(ChannelActivation):
    """Hold the two slopes ``p1`` and ``p2``, parameters of shape ``(C,)``.

    Args:
        num_channels: The number of channels ``C``.
        init: ``'paper'`` starts from ``p1 = 1``, ``p2 = 0`` (a Swish network); ``'normal'`` draws
            both from N(0, 1), as the authors' released code does.

    Raises:
        ValueError: If ``init`` is neither.
    """

    def __init__(self, num_channels: int, init: str = 'paper') -> None:
        super().__init__(num_channels)
        if init not in INITS:
            raise ValueError(f'init must be one of {INITS}, but it is {init!r}')
        self.init = init
        self.p1 = nn.Parameter(torch.empty(num_channels))
        self.p2 = nn.Parameter(torch.empty(num_channels))

    def reset_parameters(self) -> None:
        """Set ``p1`` and ``p2`` to their first values."""
        if self.init == 'paper':
            nn.init.ones_(self.p1)
            nn.init.zeros_(self.p2)
        else:
            nn.init.normal_(self.p1)
            nn.init.normal_(self.p2)


@MODELS.register_module()
class AconC(ConstantFactorActivation, TwoSlopeActivation):
    """Apply ACON-C, ``(p1 - p2) * x * sigmoid(beta * (p1 - p2) * x) + p2 * x`` (Eq. 4).

    The parameters ``p1``, ``p2`` and ``beta`` have the shape ``(C,)``; ``beta`` starts from 1.

    Args:
        num_channels: The number of channels ``C``.
        init: ``'paper'`` (``p1 = 1``, ``p2 = 0``) or ``'normal'`` (both from N(0, 1)).
        inplace: Ignored.

    Shape:
        - Input: ``(N, C, ...)``, any float dtype.
        - Output: shape and dtype of the input.

    Raises:
        ValueError: If ``init`` is neither.
    """

    def __init__(self, num_channels: int, init: str = 'paper', inplace: bool = False) -> None:
        super().__init__(num_channels, init)
        self.beta = nn.Parameter(torch.empty(num_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set ``p1``, ``p2`` and ``beta`` to their first values."""
        super().reset_parameters()
        nn.init.ones_(self.beta)

    def constants(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """Return ``p1``, ``p2`` and ``beta``."""
        return self.p1, self.p2, self.beta

    def forward(self, x: Tensor) -> Tensor:
        if self.deploy and takes_formula(x):
            return folded_acon_formula(x, self.d, self.beta_d, self.folded_p2)
        return acon(x, self.p1, self.p2, self.beta)

    def extra_repr(self) -> str:
        return f'{self.num_channels}, init={self.init!r}'
