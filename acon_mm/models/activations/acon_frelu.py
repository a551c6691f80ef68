"""ACON-FReLU of *Activate or Not* (https://arxiv.org/abs/2009.04759), Tables 1 and 8.

FReLU (https://arxiv.org/abs/2007.11824) is ``max(x, T(x))`` with a depth-wise convolution ``T``;
this is its smooth form, which TFNet is made of.
"""

from torch import Tensor, nn

from acon_mm.ops import smooth_maximum_of_two
from acon_mm.registry import MODELS

from .acon import ChannelActivation
from .folding import fold_norm
from .norm import build_norm

STRIDES = (1, 2)


@MODELS.register_module()
class AconFReLU(ChannelActivation):
    """Apply the smooth maximum, with the switching factor 1, of the input and its neighbourhood.

    ``bn2(smooth_maximum([x1, x2], 1))`` with ``x1 = x`` and ``x2 = bn1(conv_frelu(x))``, where
    ``conv_frelu`` is a depth-wise 3×3 convolution. With ``stride=2`` the convolution strides and
    ``x1`` is the 3×3 max pool of ``x`` with the same stride.

    ``conv_frelu`` has no bias, as no convolution before a norm has here; the authors' has one,
    which a batch norm in training cancels and which their weights' converter folds into its
    running mean.

    Args:
        num_channels: The number of channels ``C``.
        stride: 1 or 2.
        norm_cfg: The config of ``bn1`` and ``bn2``. Inside a backbone the default is the
            backbone's ``norm_cfg``.
        inplace: Ignored.

    Shape:
        - Input: ``(N, C, H, W)``, any float dtype.
        - Output: the dtype of the input and, for ``stride=2``, ``(N, C, ceil(H / 2),
          ceil(W / 2))``, otherwise the shape of the input.

    Raises:
        ValueError: If ``stride`` is neither 1 nor 2 or ``num_channels`` is not a positive integer.

    Examples:
        >>> import torch
        >>> AconFReLU(4, stride=2)(torch.rand(2, 4, 6, 5)).shape
        torch.Size([2, 4, 3, 3])
    """

    def __init__(
        self,
        num_channels: int | None = None,
        stride: int = 1,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        inplace: bool = False,
    ) -> None:
        super().__init__(num_channels)
        channels = self.num_channels
        if stride not in STRIDES:
            raise ValueError(f'stride must be one of {STRIDES}, but it is {stride!r}')
        self.stride = stride
        self.conv_frelu = nn.Conv2d(
            channels, channels, 3, stride, padding=1, groups=channels, bias=False
        )
        self.bn1 = build_norm(norm_cfg, channels)
        self.bn2 = build_norm(norm_cfg, channels)
        self.maxpool = nn.Identity() if stride == 1 else nn.MaxPool2d(3, stride, padding=1)

    def activate(self, x: Tensor) -> Tensor:
        x1 = self.maxpool(x)
        x2 = self.bn1(self.conv_frelu(x))  # under autocast the convolution's dtype
        return self.bn2(smooth_maximum_of_two(x1, x2))

    def fold(self) -> None:
        """Fold ``bn1`` into ``conv_frelu``; ``bn2`` follows something non-linear and stays."""
        self.bn1 = fold_norm(self.conv_frelu, self.bn1)

    def extra_repr(self) -> str:
        return f'{self.num_channels}, stride={self.stride}'
