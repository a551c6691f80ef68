"""ACON-A, -B and -C of *Activate or Not* (https://arxiv.org/abs/2009.04759), Table 1.

All are the smooth maximum of two lines through the origin: of ``x`` and 0 (ACON-A, which is
Swish), of ``x`` and ``p * x`` (ACON-B), of ``p1 * x`` and ``p2 * x`` (ACON-C).

Every module accepts ``inplace`` and ignores it: mmcv's ``ConvModule`` adds that argument to the
config of any activation it does not know.
"""

from typing import Any

import torch
from torch import Tensor, nn

from acon_mm.errors import UserError
from acon_mm.ops import acon
from acon_mm.ops.acon import takes_formula
from acon_mm.ops.formula import fold_acon, folded_acon_formula
from acon_mm.registry import MODELS

LIKE = {'relu_like': 1000.0, 'silu_like': 1.0, 'gelu_like': 1.702}
"""By the inits that start near another activation, the switching factor there. With ``p1 = 1``
and ``p2 = 0`` ACON differs from ReLU by at most ``0.27846 / beta``, which is 0.00028, from GELU by
at most 0.0203, and from SiLU not at all."""

INITS = ('paper', 'normal', *LIKE)


class ChannelActivation(nn.Module):
    """Hold what all activations of the family share: a number of channels and where they are.

    Args:
        num_channels: The number of channels of the inputs, at least 1.
        channel_dim: The dimension of the channels: 1 as in ``(N, C, H, W)``, or -1, the last one,
            as in ``(N, L, C)`` and ``(N, H, W, C)``.

    Raises:
        UserError: If ``num_channels`` is None.
        ValueError: If ``num_channels`` is not a positive integer or ``channel_dim`` neither 1
            nor -1.
    """

    # For torch.jit.script.
    __constants__ = ('channel_dim', 'deploy')

    def __init__(self, num_channels: int | None, channel_dim: int = 1) -> None:
        super().__init__()
        if num_channels is None:
            name = type(self).__name__
            raise UserError(
                'num_channels must be a positive integer, but it is None: this network does not '
                f'pass it to acon_mm.{name}; let it keep its own act_cfg and have that replaced, '
                "dict(type='acon_mm.ReplaceActivations', module=dict(type='mmdet.CSPNeXt', ...), "
                f"act_cfg=dict(type='acon_mm.{name}'))"
            )
        if not isinstance(num_channels, int) or num_channels < 1:
            raise ValueError(
                f'num_channels must be a positive integer, but it is {num_channels!r}'
            )
        if channel_dim not in (1, -1):
            raise ValueError(f'channel_dim must be 1 or -1, but it is {channel_dim!r}')
        self.num_channels = num_channels
        self.channel_dim = channel_dim
        self.deploy = False

    def forward(self, x: Tensor) -> Tensor:
        if self.channel_dim == 1 or x.dim() == 2:
            return self.activate(x)
        # A view: to the kernels a contiguous map with the channels last is a channels_last map.
        first = x.movedim(-1, 1)
        if x.dim() == 3:  # the memory format exists for images
            return self.activate(first.unsqueeze(-1)).squeeze(-1).movedim(1, -1)
        return self.activate(first).movedim(1, -1)

    def activate(self, x: Tensor) -> Tensor:
        """Apply the activation to a tensor of shape ``(N, C, ...)``."""
        raise NotImplementedError(f'{type(self).__name__} must say what it computes')

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
        last = '' if self.channel_dim == 1 else f', channel_dim={self.channel_dim}'
        return f'{self.num_channels}{last}'


class ConstantFactorActivation(ChannelActivation):
    """Fold slopes and a switching factor that do not depend on the input.

    The kernels compute ``p1 - p2`` and ``beta * (p1 - p2)`` in registers, once per channel: they
    still take the parameters and gain nothing. The graph of a tracer, exporter or compiler gains:
    it gets both as constants in the shape it needs.
    """

    d: Tensor
    beta_d: Tensor
    folded_p2: Tensor

    def constants(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """Return ``p1``, ``p2`` and ``beta``, numbers or tensors of shape ``(C,)``."""
        raise NotImplementedError(f'{type(self).__name__} must name its parameters')

    def fold(self) -> None:
        """Set the buffers ``d``, ``beta_d`` and ``folded_p2``, which are not in the state."""
        for name, value in zip(
            ('d', 'beta_d', 'folded_p2'), fold_acon(*self.constants()), strict=True
        ):
            self.register_buffer(name, value, persistent=False)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
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
        channel_dim: 1, or -1 if the channels are the last dimension.

    Shape:
        - Input: ``(N, C, ...)``, any float dtype.
        - Output: shape and dtype of the input.
    """

    def __init__(
        self,
        num_channels: int | None = None,
        beta: float = 1.0,
        learnable: bool = True,
        inplace: bool = False,
        channel_dim: int = 1,
    ) -> None:
        super().__init__(num_channels, channel_dim)
        self.init_beta = beta
        self.learnable = learnable
        self.beta: nn.Parameter | float
        if learnable:
            self.beta = nn.Parameter(torch.empty(self.num_channels))
            self.reset_parameters()
        else:
            self.beta = float(beta)  # torch.jit.script would read 1 as an integer

    def reset_parameters(self) -> None:
        """Set the switching factors to their first value."""
        if isinstance(self.beta, nn.Parameter):
            nn.init.constant_(self.beta, self.init_beta)

    def constants(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """Return ``p1``, ``p2`` and ``beta``."""
        return 1.0, 0.0, self.beta

    def activate(self, x: Tensor) -> Tensor:
        if self.deploy and takes_formula(x):
            return folded_acon_formula(x, None, self.beta_d, None)
        return acon(x, 1.0, 0.0, self.beta)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, beta={self.init_beta}, learnable={self.learnable}'


@MODELS.register_module()
class AconB(ConstantFactorActivation):
    """Apply ACON-B, ``(1 - p) * x * sigmoid(beta * (1 - p) * x) + p * x`` (Eq. 3).

    It smooths PReLU. The parameters ``p`` and ``beta`` have the shape ``(C,)`` and start from
    0.25, as PReLU's slope does, and from 1.

    Args:
        num_channels: The number of channels ``C``.
        init: ``'paper'``, or a key of :data:`LIKE`.
        inplace: Ignored.
        channel_dim: 1, or -1 if the channels are the last dimension.

    Shape:
        - Input: ``(N, C, ...)``, any float dtype.
        - Output: shape and dtype of the input.

    Raises:
        ValueError: If ``init`` or ``channel_dim`` is neither of these.
    """

    def __init__(
        self,
        num_channels: int | None = None,
        init: str = 'paper',
        inplace: bool = False,
        channel_dim: int = 1,
    ) -> None:
        super().__init__(num_channels, channel_dim)
        check_init(init, ('paper', *LIKE))
        self.init = init
        self.p = nn.Parameter(torch.empty(self.num_channels))
        self.beta = nn.Parameter(torch.empty(self.num_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set ``p`` and ``beta`` to their first values."""
        nn.init.constant_(self.p, 0.0 if self.init in LIKE else 0.25)
        nn.init.constant_(self.beta, LIKE.get(self.init, 1.0))

    def constants(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """Return ``p1``, ``p2`` and ``beta``."""
        return 1.0, self.p, self.beta

    def activate(self, x: Tensor) -> Tensor:
        if self.deploy and takes_formula(x):
            return folded_acon_formula(x, self.d, self.beta_d, self.folded_p2)
        return acon(x, 1.0, self.p, self.beta)


class TwoSlopeActivation(ChannelActivation):
    """Hold the two slopes ``p1`` and ``p2``, parameters of shape ``(C,)``.

    Args:
        num_channels: The number of channels ``C``.
        init: ``'paper'`` starts from ``p1 = 1``, ``p2 = 0`` (a Swish network), and so do the keys
            of :data:`LIKE`; ``'normal'`` draws both from N(0, 1), as the authors' released code
            does.
        channel_dim: 1, or -1 if the channels are the last dimension.

    Raises:
        ValueError: If ``init`` is none of these.
    """

    def __init__(
        self, num_channels: int | None, init: str = 'paper', channel_dim: int = 1
    ) -> None:
        super().__init__(num_channels, channel_dim)
        check_init(init, INITS)
        self.init = init
        self.p1 = nn.Parameter(torch.empty(self.num_channels))
        self.p2 = nn.Parameter(torch.empty(self.num_channels))

    def reset_parameters(self) -> None:
        """Set ``p1`` and ``p2`` to their first values."""
        if self.init == 'normal':
            nn.init.normal_(self.p1)
            nn.init.normal_(self.p2)
        else:
            nn.init.ones_(self.p1)
            nn.init.zeros_(self.p2)


@MODELS.register_module()
class AconC(ConstantFactorActivation, TwoSlopeActivation):
    """Apply ACON-C, ``(p1 - p2) * x * sigmoid(beta * (p1 - p2) * x) + p2 * x`` (Eq. 4).

    The parameters ``p1``, ``p2`` and ``beta`` have the shape ``(C,)``; ``beta`` starts from 1.

    Args:
        num_channels: The number of channels ``C``.
        init: ``'paper'`` (``p1 = 1``, ``p2 = 0``), ``'normal'`` (both from N(0, 1)), or a key of
            :data:`LIKE`, which sets ``beta``, too.
        inplace: Ignored.
        channel_dim: 1, or -1 if the channels are the last dimension.

    Shape:
        - Input: ``(N, C, ...)``, any float dtype.
        - Output: shape and dtype of the input.

    Raises:
        ValueError: If ``init`` is none of these.
    """

    def __init__(
        self,
        num_channels: int | None = None,
        init: str = 'paper',
        inplace: bool = False,
        channel_dim: int = 1,
    ) -> None:
        super().__init__(num_channels, init, channel_dim)
        self.beta = nn.Parameter(torch.empty(self.num_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set ``p1``, ``p2`` and ``beta`` to their first values."""
        super().reset_parameters()
        nn.init.constant_(self.beta, LIKE.get(self.init, 1.0))

    def constants(self) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """Return ``p1``, ``p2`` and ``beta``."""
        return self.p1, self.p2, self.beta

    def activate(self, x: Tensor) -> Tensor:
        if self.deploy and takes_formula(x):
            return folded_acon_formula(x, self.d, self.beta_d, self.folded_p2)
        return acon(x, self.p1, self.p2, self.beta)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, init={self.init!r}'


def check_init(init: str, accepted: tuple[str, ...]) -> None:
    """Raise a ``ValueError`` that lists the accepted inits if ``init`` is not one of them."""
    if init not in accepted:
        raise ValueError(f'init must be one of {accepted}, but it is {init!r}')
