"""MobileNetV2 (https://arxiv.org/abs/1801.04381) with a replaceable activation."""

import math
from collections.abc import Sequence

from mmpretrain.models.utils import make_divisible
from torch import Tensor, nn

from acon_mm.models.layers import ConvNormAct
from acon_mm.registry import MODELS

from .base import KAIMING, PLACEMENTS, StagedBackbone, check_choice, check_width

RELU6 = dict(type='ReLU6')
WIDTH_RULES = ('mmpretrain', 'ceil')

# Of each stage: expansion, channels at width 1, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand with a 1×1 convolution, filter depth-wise, project with a linear 1×1 convolution.

    Args:
        in_channels: The number of input channels.
        out_channels: The number of output channels.
        stride: The stride of the depth-wise convolution. The input is added to the output where
            both have the same shape.
        expansion: The expanded width over the input's; at 1 there is no first convolution.
        act_cfg: The config of the activation after the depth-wise convolution.
        other_act_cfg: The config of the activation after the first convolution.
        norm_cfg: The config of the norms.

    Shape:
        - Input: ``(N, in_channels, H, W)``.
        - Output: ``(N, out_channels, ceil(H / stride), ceil(W / stride))``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        expansion: int,
        act_cfg: dict,
        other_act_cfg: dict,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        self.adds_input = stride == 1 and in_channels == out_channels
        hidden = in_channels * expansion
        expand = ConvNormAct(in_channels, hidden, 1, norm_cfg=norm_cfg, act_cfg=other_act_cfg)
        depthwise = ConvNormAct(
            hidden, hidden, 3, stride=stride, groups=hidden, norm_cfg=norm_cfg, act_cfg=act_cfg
        )
        project = ConvNormAct(hidden, out_channels, 1, norm_cfg=norm_cfg)
        self.conv = nn.Sequential(*([] if expansion == 1 else [expand]), depthwise, project)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds_input else self.conv(x)


@MODELS.register_module()
class AconMobileNetV2(StagedBackbone):
    """MobileNetV2 with a replaceable activation.

    With ``act_cfg=dict(type='ReLU6')`` it has the state-dict keys and the outputs of
    ``mmpretrain.MobileNetV2``.

    =====================  ====  ====  ====  ====  ====  ====  ====  ====
    index of the stage     0     1     2     3     4     5     6     7
    =====================  ====  ====  ====  ====  ====  ====  ====  ====
    stride                 2     4     8     16    16    32    32    32
    channels, width 1      16    24    32    64    96    160   320   1280
    =====================  ====  ====  ====  ====  ====  ====  ====  ====

    mmpretrain scales all channels by the width and rounds them to a multiple of 8, at most 10 %
    down. At the widths 0.17 and 0.6 that gives 32M and 151M multiply-accumulates, where Table 8
    prints 42M and 141M. The rule ``'ceil'`` gives 42.0M and 141.7M: it rounds up to a whole
    number and leaves stage 0 at 16 channels. The authors did not release this network: the rule
    is a simple one among several that fit their rounded figures, not known to be theirs. At
    width 1 both rules agree. In both, the last 1×1 convolution, stage 7, never has fewer than
    1280 channels.

    Args:
        widen_factor: The width; the paper has 0.17, 0.6, 1.0 and 1.4.
        act_cfg: The config of the activation, such as ``dict(type='acon_mm.MetaAcon')``.
        placement: Which activations are replaced: ``'one'``, in each block the one after the
            depth-wise convolution, or ``'all'``. The others, with ``'one'`` those outside the
            blocks as well, are ReLU6.
        width_rule: How channels are scaled, ``'mmpretrain'`` or ``'ceil'``, see above.
        out_indices: The stages whose outputs are returned, out of 0 to 7.
        norm_cfg: The config of the norms after the convolutions and, unless ``act_cfg`` names
            one, of those inside the activations.
        init_cfg: mmengine's config of the initial values; Kaiming's by default.
        **kwargs: ``frozen_stages``, ``norm_eval`` and ``with_cp`` of :class:`StagedBackbone`.

    Shape:
        - Input: ``(N, 3, H, W)``.
        - Output: a tuple with a tensor ``(N, C_i, H_i, W_i)`` for each of ``out_indices``.

    Raises:
        ValueError: If an argument has a value that is not accepted; the message lists those that
            are.

    Examples:
        >>> import torch
        >>> from acon_mm.models import AconMobileNetV2
        >>> net = AconMobileNetV2(0.6, act_cfg=dict(type='acon_mm.AconC'), out_indices=(3, 7))
        >>> [tuple(out.shape) for out in net(torch.rand(1, 3, 64, 64))]
        [(1, 40, 4, 4), (1, 1280, 2, 2)]
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        *,
        act_cfg: dict = dict(type='acon_mm.MetaAcon'),  # noqa: B006
        placement: str = 'all',
        width_rule: str = 'mmpretrain',
        out_indices: Sequence[int] = (7,),
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = KAIMING,
        **kwargs,
    ) -> None:
        check_width(widen_factor)
        check_choice('placement', placement, PLACEMENTS)
        check_choice('width_rule', width_rule, WIDTH_RULES)
        other_act_cfg = act_cfg if placement == 'all' else RELU6

        def conv(
            in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
        ) -> ConvNormAct:
            return ConvNormAct(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                norm_cfg=norm_cfg,
                act_cfg=other_act_cfg,
            )

        width = scaled(32, widen_factor, width_rule)
        stem = {'conv1': conv(3, width, 3, stride=2)}
        stages = {}
        for expansion, channels, num_blocks, stride in STAGES:
            out_channels = scaled(channels, widen_factor, width_rule)
            blocks = []
            for index in range(num_blocks):
                block = InvertedResidual(
                    width,
                    out_channels,
                    stride=1 if index else stride,
                    expansion=expansion,
                    act_cfg=act_cfg,
                    other_act_cfg=other_act_cfg,
                    norm_cfg=norm_cfg,
                )
                blocks.append(block)
                width = out_channels
            stages[f'layer{len(stages) + 1}'] = nn.Sequential(*blocks)
        stages['conv2'] = conv(width, int(1280 * max(widen_factor, 1)), 1)
        super().__init__(stem, stages, out_indices=out_indices, init_cfg=init_cfg, **kwargs)
        self.widen_factor = widen_factor


def scaled(channels: int, widen_factor: float, width_rule: str) -> int:
    """Scale a number of channels by the width, see :class:`AconMobileNetV2`."""
    if width_rule == 'mmpretrain':
        return make_divisible(channels * widen_factor, 8)
    if channels == STAGES[0][1]:
        return channels
    return math.ceil(round(channels * widen_factor, 6))  # 0.07 * 100 is 7.000000000000001
