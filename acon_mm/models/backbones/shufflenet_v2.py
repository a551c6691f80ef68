"""ShuffleNetV2 (https://arxiv.org/abs/1807.11164) in the authors' channel order."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from acon_mm.models.layers import ConvNormAct, build_se, draw_authors_weights
from acon_mm.registry import MODELS

from .base import PLACEMENTS, StagedBackbone, check_choice

RELU = dict(type='ReLU')

STEM_CHANNELS = 24
STEM_STRIDE = 4
NUM_BLOCKS = (4, 8, 4)
OUTPUT_STRIDES = (8, 16, 32)
# Of each width: the channels of the three stages and of the last convolution.
CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


class ShuffleBlock(nn.Module):
    """Exchange the channels of both halves, then run one half through three convolutions.

    The even channels pass unchanged and the odd ones go through the main branch. In the first
    block of a stage all channels go through the main branch and through the projection. The
    result is the concatenation of the two, main branch last.

    torchvision and mmpretrain split into first and second half and exchange after the
    concatenation, and give both branches of a stride-2 block the same width; here the projection
    keeps the input's. These are different networks.

    Args:
        in_channels: The number of input channels; even unless the block is a first one.
        out_channels: The number of output channels.
        first: Whether it is the first block of a stage, which has a projection.
        stride: The stride of the depth-wise convolutions, 1 unless the block is a first one.
        dilation: The dilation of the depth-wise convolutions.
        act_cfg: The config of the activation after the main branch's last convolution.
        other_act_cfg: The config of the other activations.
        norm_cfg: The config of the norms.
        se_ratio: The reduction of a squeeze-and-excitation that ends the main branch; None for
            none.

    Shape:
        - Input: ``(N, in_channels, H, W)``.
        - Output: ``(N, out_channels, ceil(H / stride), ceil(W / stride))``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        first: bool,
        stride: int,
        dilation: int,
        act_cfg: dict,
        other_act_cfg: dict,
        norm_cfg: dict,
        se_ratio: int | None = None,
    ) -> None:
        super().__init__()
        width = in_channels if first else in_channels // 2
        mid_channels = out_channels // 2
        main_channels = out_channels - width
        self.branch_main = nn.Sequential(
            ConvNormAct(width, mid_channels, 1, norm_cfg=norm_cfg, act_cfg=other_act_cfg),
            ConvNormAct(
                mid_channels,
                mid_channels,
                3,
                stride=stride,
                dilation=dilation,
                groups=mid_channels,
                norm_cfg=norm_cfg,
            ),
            ConvNormAct(mid_channels, main_channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg),
            build_se(se_ratio, main_channels),
        )
        self.branch_proj = None
        if first:
            self.branch_proj = nn.Sequential(
                ConvNormAct(
                    width,
                    width,
                    3,
                    stride=stride,
                    dilation=dilation,
                    groups=width,
                    norm_cfg=norm_cfg,
                ),
                ConvNormAct(width, width, 1, norm_cfg=norm_cfg, act_cfg=other_act_cfg),
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.branch_proj is None:
            return torch.cat((x[:, ::2], self.branch_main(x[:, 1::2])), dim=1)
        return torch.cat((self.branch_proj(x), self.branch_main(x)), dim=1)


@MODELS.register_module()
class AconShuffleNetV2(StagedBackbone):
    """ShuffleNetV2 with a replaceable activation, as the authors of ACON built it.

    Its blocks exchange channels before they split; ``mmpretrain.ShuffleNetV2`` splits first, and
    no permutation of weights turns one network into the other.

    =====================  ====  ====  ====  ====
    index of the stage     0     1     2     3
    =====================  ====  ====  ====  ====
    stride                 8     16    32    32
    channels, width 0.5    48    96    192   1024
    channels, width 1.0    116   232   464   1024
    channels, width 1.5    176   352   704   1024
    channels, width 2.0    244   488   976   2048
    =====================  ====  ====  ====  ====

    Segmentors ask for a smaller stride of the last stages: with ``output_stride=8`` the stages
    after the first keep its resolution, and their depth-wise convolutions are dilated to see as
    far as before. At every second or fourth pixel the outputs are those of the network with
    stride 32 and the same weights, as long as no activation looks at the whole map as Meta-ACON
    does.

    The authors' Meta-ACON has the reduction 8 at width 0.5 and 16 at the others:
    ``act_cfg=dict(type='acon_mm.MetaAcon', reduction=8)``.

    A new network has the authors' initial values, see :func:`draw_authors_weights`.

    Args:
        widen_factor: The width: 0.5, 1.0, 1.5 or 2.0.
        act_cfg: The config of the activation, such as ``dict(type='acon_mm.MetaAcon')``.
        placement: Which activations are replaced: ``'one'``, in each block the one after the last
            convolution of the main branch, or ``'all'``. The others, with ``'one'`` those outside
            the blocks as well, are ReLU.
        se_ratio: The reduction of a squeeze-and-excitation that ends the main branch of each
            block, 16 for Table 6; None for none.
        output_stride: The largest stride of a stage: 8, 16 or 32.
        out_indices: The stages whose outputs are returned, out of 0 to 3.
        norm_cfg: The config of the norms after the convolutions and, unless ``act_cfg`` names
            one, of those inside the activations.
        **kwargs: ``frozen_stages``, ``norm_eval``, ``with_cp`` and ``init_cfg`` of
            :class:`StagedBackbone`. An ``init_cfg`` replaces the authors' initial values.

    Shape:
        - Input: ``(N, 3, H, W)``.
        - Output: a tuple with a tensor ``(N, C_i, H_i, W_i)`` for each of ``out_indices``.

    Raises:
        ValueError: If an argument has a value that is not accepted; the message lists those that
            are.

    Examples:
        >>> import torch
        >>> from acon_mm.models import AconShuffleNetV2
        >>> net = AconShuffleNetV2(0.5, act_cfg=dict(type='acon_mm.AconC'), out_indices=(0, 3))
        >>> [tuple(out.shape) for out in net(torch.rand(1, 3, 64, 64))]
        [(1, 48, 8, 8), (1, 1024, 2, 2)]
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        *,
        act_cfg: dict = dict(type='acon_mm.MetaAcon'),  # noqa: B006
        placement: str = 'all',
        se_ratio: int | None = None,
        output_stride: int = 32,
        out_indices: Sequence[int] = (3,),
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        **kwargs,
    ) -> None:
        check_choice('widen_factor', widen_factor, tuple(CHANNELS))
        check_choice('placement', placement, PLACEMENTS)
        check_choice('output_stride', output_stride, OUTPUT_STRIDES)
        other_act_cfg = act_cfg if placement == 'all' else RELU
        *stage_channels, last_channels = CHANNELS[widen_factor]
        width = STEM_CHANNELS
        stem = {
            'conv1': ConvNormAct(3, width, 3, stride=2, norm_cfg=norm_cfg, act_cfg=other_act_cfg),
            'maxpool': nn.MaxPool2d(3, stride=2, padding=1),
        }
        stages = {}
        reached, dilation = STEM_STRIDE, 1
        for out_channels, num_blocks in zip(stage_channels, NUM_BLOCKS, strict=True):
            stride = 2 if reached < output_stride else 1
            reached *= stride
            # The first block of a dilated stage looks at what the stage before it returned.
            first_dilation, dilation = dilation, 2 * dilation // stride
            blocks = []
            for index in range(num_blocks):
                block = ShuffleBlock(
                    width,
                    out_channels,
                    first=index == 0,
                    stride=1 if index else stride,
                    dilation=dilation if index else first_dilation,
                    act_cfg=act_cfg,
                    other_act_cfg=other_act_cfg,
                    norm_cfg=norm_cfg,
                    se_ratio=se_ratio,
                )
                blocks.append(block)
                width = out_channels
            stages[f'layer{len(stages) + 1}'] = nn.Sequential(*blocks)
        stages['conv_last'] = ConvNormAct(
            width, last_channels, 1, norm_cfg=norm_cfg, act_cfg=other_act_cfg
        )
        super().__init__(stem, stages, out_indices=out_indices, **kwargs)
        self.widen_factor = widen_factor
        draw_authors_weights(self, first=self.conv1)
