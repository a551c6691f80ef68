"""MobileNetV1 (https://arxiv.org/abs/1704.04861) with a replaceable activation."""

from collections.abc import Sequence

from mmpretrain.models.utils import make_divisible
from torch import nn

from acon_mm.models.layers import ConvNormAct
from acon_mm.registry import MODELS

from .base import KAIMING, PLACEMENTS, StagedBackbone, check_choice, check_width

RELU = dict(type='ReLU')

# Of each stage: channels at width 1, blocks, stride of the first block.
STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))


@MODELS.register_module()
class AconMobileNetV1(StagedBackbone):
    """MobileNetV1 with a replaceable activation.

    The thirteen separable convolutions, a depth-wise 3×3 and a 1×1 one with an activation each,
    are grouped by stride.

    =====================  ====  ====  ====  ====  ====
    index of the stage     0     1     2     3     4
    =====================  ====  ====  ====  ====  ====
    stride                 2     4     8     16    32
    channels, width 1      64    128   256   512   1024
    =====================  ====  ====  ====  ====  ====

    Channels are scaled by the width and rounded to a multiple of 8, at most 10 % down.

    Args:
        widen_factor: The width; the paper has 0.25 and 0.75.
        act_cfg: The config of the activation, such as ``dict(type='acon_mm.MetaAcon')``.
        placement: Which activations are replaced: ``'one'``, in each block the one after the
            depth-wise convolution, or ``'all'``. The others, with ``'one'`` those outside the
            blocks as well, are ReLU.
        out_indices: The stages whose outputs are returned, out of 0 to 4.
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
        >>> from acon_mm.models import AconMobileNetV1
        >>> net = AconMobileNetV1(0.25, act_cfg=dict(type='acon_mm.AconC'), out_indices=(3, 4))
        >>> [tuple(out.shape) for out in net(torch.rand(1, 3, 64, 64))]
        [(1, 128, 4, 4), (1, 256, 2, 2)]
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        *,
        act_cfg: dict = dict(type='acon_mm.MetaAcon'),  # noqa: B006
        placement: str = 'all',
        out_indices: Sequence[int] = (4,),
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = KAIMING,
        **kwargs,
    ) -> None:
        check_width(widen_factor)
        check_choice('placement', placement, PLACEMENTS)
        other_act_cfg = act_cfg if placement == 'all' else RELU
        width = make_divisible(32 * widen_factor, 8)
        stem = {
            'conv1': ConvNormAct(3, width, 3, stride=2, norm_cfg=norm_cfg, act_cfg=other_act_cfg)
        }
        stages = {}
        for channels, num_blocks, stride in STAGES:
            out_channels = make_divisible(channels * widen_factor, 8)
            blocks = []
            for index in range(num_blocks):
                depthwise = ConvNormAct(
                    width,
                    width,
                    3,
                    stride=1 if index else stride,
                    groups=width,
                    norm_cfg=norm_cfg,
                    act_cfg=act_cfg,
                )
                pointwise = ConvNormAct(
                    width, out_channels, 1, norm_cfg=norm_cfg, act_cfg=other_act_cfg
                )
                blocks.append(nn.Sequential(depthwise, pointwise))
                width = out_channels
            stages[f'layer{len(stages) + 1}'] = nn.Sequential(*blocks)
        super().__init__(stem, stages, out_indices=out_indices, init_cfg=init_cfg, **kwargs)
        self.widen_factor = widen_factor
