"""TFNet of *Activate or Not* (https://arxiv.org/abs/2009.04759), Table 8."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from acon_mm.models.activations import AconFReLU
from acon_mm.models.layers import ConvNormAct
from acon_mm.registry import MODELS

from .base import KAIMING, StagedBackbone, check_choice

WIDEN_FACTORS = (0.5, 1.0, 1.5, 2.0)
NUM_BLOCKS = (2, 3, 8, 3)
LAST_CHANNELS = 1024


class TFBlock(nn.Module):
    """Join the input with its main branch of two 1×1 convolutions, then apply ACON-FReLU.

    At stride 1 the two are added, at stride 2 concatenated, which doubles the width; the strides
    are the activation's. The only convolutions that see a neighbourhood are those inside the
    activations.

    Args:
        in_channels: The number of input channels.
        stride: 1 or 2.
        norm_cfg: The config of the norms, those inside the activations included.

    Shape:
        - Input: ``(N, in_channels, H, W)``.
        - Output: ``(N, stride * in_channels, ceil(H / stride), ceil(W / stride))``.
    """

    def __init__(self, in_channels: int, *, stride: int, norm_cfg: dict) -> None:
        super().__init__()
        self.stride = stride
        act_cfg = dict(type=AconFReLU)
        self.branch_main = nn.Sequential(
            ConvNormAct(in_channels, in_channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg),
            ConvNormAct(in_channels, in_channels, 1, norm_cfg=norm_cfg),
        )
        self.acon = AconFReLU(stride * in_channels, stride=stride, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        main = self.branch_main(x)
        return self.acon(x + main if self.stride == 1 else torch.cat((x, main), dim=1))


@MODELS.register_module()
class TFNet(StagedBackbone):
    """TFNet, a toy funnel network whose activations are all ACON-FReLU; the stem keeps ReLU.

    =====================  ====  ====  ====  ====  ====
    index of the stage     0     1     2     3     4
    =====================  ====  ====  ====  ====  ====
    stride                 4     8     16    32    32
    channels, width 0.5    16    32    64    128   1024
    channels, width 1.0    32    64    128   256   1024
    channels, width 1.5    48    96    192   384   1024
    channels, width 2.0    64    128   256   512   1024
    =====================  ====  ====  ====  ====  ====

    The last stage is the 1×1 convolution before the classifier. The authors' networks wider than
    0.5 have a dropout of 0.2 between the pooling and the classifier; it belongs to the head, not
    to the backbone.

    Args:
        widen_factor: The width: 0.5, 1.0, 1.5 or 2.0.
        out_indices: The stages whose outputs are returned, out of 0 to 4.
        norm_cfg: The config of the norms, those inside the activations included.
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
        >>> from acon_mm.models import TFNet
        >>> net = TFNet(0.5, out_indices=(0, 4))
        >>> [tuple(out.shape) for out in net(torch.rand(2, 3, 64, 64))]
        [(2, 16, 16, 16), (2, 1024, 2, 2)]
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        *,
        out_indices: Sequence[int] = (4,),
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = KAIMING,
        **kwargs,
    ) -> None:
        check_choice('widen_factor', widen_factor, WIDEN_FACTORS)
        width = int(16 * widen_factor)
        stem = {
            'conv1': ConvNormAct(
                3, width, 3, stride=2, norm_cfg=norm_cfg, act_cfg=dict(type='ReLU')
            )
        }
        stages = {}
        for index, num_blocks in enumerate(NUM_BLOCKS, 1):
            first = TFBlock(width, stride=2, norm_cfg=norm_cfg)
            width *= 2
            others = (TFBlock(width, stride=1, norm_cfg=norm_cfg) for _ in range(num_blocks - 1))
            stages[f'layer{index}'] = nn.Sequential(first, *others)
        stages['conv_last'] = ConvNormAct(
            width, LAST_CHANNELS, 1, norm_cfg=norm_cfg, act_cfg=dict(type=AconFReLU)
        )
        super().__init__(stem, stages, out_indices=out_indices, init_cfg=init_cfg, **kwargs)
        self.widen_factor = widen_factor
