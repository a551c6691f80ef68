"""The blocks of ResNet with a replaceable activation and, if asked for, squeeze-and-excitation.

They are mmpretrain's, whose layers and initial values are used as they are, except that each
position of an activation has a module of its own.
"""

from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from acon_mm.models.activations import build_activation
from acon_mm.models.layers import build_se, checkpoint_block

from .base import act_cfgs


class AconBasicBlock(BasicBlock):
    """The block of ResNet-18 and -34 with activations ``act1`` and ``act2``.

    Args:
        act_cfg: The config of the activation that replaces ReLU.
        placement: ``'one'`` replaces the activation after the first convolution, ``'all'`` the
            one after the addition as well. None is ``'all'``, as in the paper.
        se_ratio: The reduction of the squeeze-and-excitation before the addition; None for none.
        **kwargs: The arguments of ``mmpretrain``'s ``BasicBlock``.

    Shape:
        - Input: ``(N, in_channels, H, W)``.
        - Output: ``(N, out_channels, ceil(H / stride), ceil(W / stride))``.
    """

    def __init__(
        self, act_cfg: dict, placement: str | None = None, se_ratio: int | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        del self.relu
        cfgs = act_cfgs(act_cfg, placement or 'all', 'ReLU', count=2, replaced=0)
        self.act1 = build_activation(cfgs[0], self.mid_channels, self.norm_cfg)
        self.act2 = build_activation(cfgs[1], self.out_channels, self.norm_cfg)
        self.se_layer = build_se(se_ratio, self.out_channels)

    def set_dilation(self, dilation: int) -> None:
        """Give the dilated convolution another dilation, with the padding that keeps the size."""
        _set_dilation(self.conv1, dilation)

    def residual(self, x: Tensor) -> Tensor:
        """Compute the block up to and with the addition, in the shape of the block's output."""
        out = self.act1(self.norm1(self.conv1(x)))
        out = self.drop_path(self.se_layer(self.norm2(self.conv2(out))))
        out += x if self.downsample is None else self.downsample(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        out = checkpoint_block(self, x, self.residual) if self.with_cp else self.residual(x)
        return self.act2(out)


class AconBottleneck(Bottleneck):
    """The block of ResNet-50, -101 and -152 with activations ``act1``, ``act2`` and ``act3``.

    Args:
        act_cfg: The config of the activation that replaces ReLU.
        placement: ``'one'`` replaces the activation after the 3×3 convolution, ``'all'`` every
            one. None is ``'one'``, as in the paper.
        se_ratio: The reduction of the squeeze-and-excitation before the addition; None for none.
        **kwargs: The arguments of ``mmpretrain``'s ``Bottleneck``.

    Shape:
        - Input: ``(N, in_channels, H, W)``.
        - Output: ``(N, out_channels, ceil(H / stride), ceil(W / stride))``.
    """

    def __init__(
        self, act_cfg: dict, placement: str | None = None, se_ratio: int | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        del self.relu
        cfgs = act_cfgs(act_cfg, placement or 'one', 'ReLU', count=3, replaced=1)
        self.act1 = build_activation(cfgs[0], self.mid_channels, self.norm_cfg)
        self.act2 = build_activation(cfgs[1], self.mid_channels, self.norm_cfg)
        self.act3 = build_activation(cfgs[2], self.out_channels, self.norm_cfg)
        self.se_layer = build_se(se_ratio, self.out_channels)

    def set_dilation(self, dilation: int) -> None:
        """Give the dilated convolution another dilation, with the padding that keeps the size."""
        _set_dilation(self.conv2, dilation)

    def residual(self, x: Tensor) -> Tensor:
        """Compute the block up to and with the addition, in the shape of the block's output."""
        out = self.act1(self.norm1(self.conv1(x)))
        out = self.act2(self.norm2(self.conv2(out)))
        out = self.drop_path(self.se_layer(self.norm3(self.conv3(out))))
        out += x if self.downsample is None else self.downsample(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        out = checkpoint_block(self, x, self.residual) if self.with_cp else self.residual(x)
        return self.act3(out)


def _set_dilation(conv: nn.Module, dilation: int) -> None:
    conv.dilation = conv.padding = (dilation, dilation)
