"""SENet (https://arxiv.org/abs/1709.01507) with a replaceable activation, Table 7."""

from collections.abc import Sequence

from torch import Tensor, nn

from acon_mm.models.activations import build_activation
from acon_mm.models.layers import ConvNormAct, build_se
from acon_mm.registry import MODELS

from .base import KAIMING, PLACEMENTS, StagedBackbone, act_cfgs, check_choice

NUM_BLOCKS = {154: (3, 8, 36, 3)}
STEM_CHANNELS = (64, 64, 128)
STAGE_CHANNELS = (256, 512, 1024, 2048)
GROUPS = 64
SE_RATIO = 16
RELU = dict(type='ReLU')


class SENetBlock(nn.Module):
    """Add to the input what three convolutions and squeeze-and-excitation make of it.

    The grouped 3×3 convolution is as wide as the output and the 1×1 convolution before it half as
    wide, whereas a ResNeXt bottleneck of 64×4d has both at the former width.

    Args:
        in_channels: The number of input channels.
        out_channels: The number of output channels.
        act_cfg: The config of the activation that replaces ReLU.
        placement: ``'one'`` replaces the activation after the 3×3 convolution, ``'all'`` every
            one.
        norm_cfg: The config of the norms.
        stride: The stride of the 3×3 convolution and of the projection.
        projection: The size of the kernel of the convolution on the shortcut, None for none.

    Shape:
        - Input: ``(N, in_channels, H, W)``.
        - Output: ``(N, out_channels, ceil(H / stride), ceil(W / stride))``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        act_cfg: dict,
        placement: str,
        norm_cfg: dict,
        stride: int = 1,
        projection: int | None = None,
    ) -> None:
        super().__init__()
        half = out_channels // 2
        acts = act_cfgs(act_cfg, placement, 'ReLU', count=3, replaced=1)
        self.conv1 = ConvNormAct(in_channels, half, 1, norm_cfg=norm_cfg, act_cfg=acts[0])
        self.conv2 = ConvNormAct(
            half, out_channels, 3, stride=stride, groups=GROUPS, norm_cfg=norm_cfg, act_cfg=acts[1]
        )
        self.conv3 = ConvNormAct(out_channels, out_channels, 1, norm_cfg=norm_cfg)
        self.se_layer = build_se(SE_RATIO, out_channels)
        self.downsample = None
        if projection is not None:
            self.downsample = ConvNormAct(
                in_channels, out_channels, projection, stride=stride, norm_cfg=norm_cfg
            )
        self.activate = build_activation(acts[2], out_channels, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        out = self.se_layer(self.conv3(self.conv2(self.conv1(x))))
        return self.activate(out + (x if self.downsample is None else self.downsample(x)))


@MODELS.register_module()
class AconSENet(StagedBackbone):
    """SENet-154, as its authors built it, with a replaceable activation; the stem keeps ReLU.

    What sets it apart from an SE-ResNeXt-152: three 3×3 convolutions instead of one of 7×7 in the
    stem, 64 groups, half the channels in each block's first convolution, and 3×3 instead of 1×1
    projections in the stages after the first. The dropout of 0.2 before its classifier belongs
    to the head, not to the backbone.

    The stages' strides are 4, 8, 16, 32, their channels 256, 512, 1024, 2048. The ReLU and the
    sigmoid inside squeeze-and-excitation are never replaced.

    Args:
        depth: 154.
        act_cfg: The config of the activation, such as ``dict(type='acon_mm.AconC')``.
        placement: Which activations of a block are replaced: ``'one'``, the one after the 3×3
            convolution, as in the paper's ResNets (the paper does not say it of SENet), or
            ``'all'``.
        out_indices: The stages whose outputs are returned, out of 0 to 3.
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
        >>> from acon_mm.models import AconSENet
        >>> net = AconSENet(154, act_cfg=dict(type='acon_mm.AconC'), out_indices=(0, 3))
        >>> [tuple(out.shape) for out in net(torch.rand(1, 3, 64, 64))]
        [(1, 256, 16, 16), (1, 2048, 2, 2)]
    """

    def __init__(
        self,
        depth: int = 154,
        *,
        act_cfg: dict = dict(type='acon_mm.AconC'),  # noqa: B006
        placement: str = 'one',
        out_indices: Sequence[int] = (3,),
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        init_cfg: dict | list | None = KAIMING,
        **kwargs,
    ) -> None:
        check_choice('depth', depth, NUM_BLOCKS)
        check_choice('placement', placement, PLACEMENTS)
        stem_layers = []
        width = 3
        for channels in STEM_CHANNELS:
            stride = 1 if stem_layers else 2
            stem_layers.append(
                ConvNormAct(width, channels, 3, stride=stride, norm_cfg=norm_cfg, act_cfg=RELU)
            )
            width = channels
        # Without padding but rounded up, as in Caffe: the windows start at the first pixel.
        pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        stages = {}
        common = dict(act_cfg=act_cfg, placement=placement, norm_cfg=norm_cfg)
        for channels, num_blocks in zip(STAGE_CHANNELS, NUM_BLOCKS[depth], strict=True):
            # The first stage keeps the size of the map: its projection only widens.
            stride, projection = (2, 3) if stages else (1, 1)
            first = SENetBlock(width, channels, stride=stride, projection=projection, **common)
            others = (SENetBlock(channels, channels, **common) for _ in range(num_blocks - 1))
            stages[f'layer{len(stages) + 1}'] = nn.Sequential(first, *others)
            width = channels
        stem = {'stem': nn.Sequential(*stem_layers), 'maxpool': pool}
        super().__init__(stem, stages, out_indices=out_indices, init_cfg=init_cfg, **kwargs)
        self.depth = depth
