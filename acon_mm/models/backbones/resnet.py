"""ResNet with a replaceable activation (https://arxiv.org/abs/2009.04759, section 4.1).

The network is mmpretrain's, whose stem, residual layers, freezing and initial values are used as
they are. Only the blocks differ.
"""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from acon_mm.checkpoints.fitting import check_pretrained
from acon_mm.models.activations.acon import ChannelActivation
from acon_mm.models.activations.folding import switch_activations_to_deploy
from acon_mm.models.layers import norm_act
from acon_mm.registry import MODELS

from .base import PLACEMENTS, check_choice, check_out_indices, depth_by_block
from .resnet_blocks import AconBasicBlock, AconBottleneck

STYLES = ('pytorch', 'caffe')


@MODELS.register_module()
class AconResNet(ResNet):
    """ResNet whose blocks have a replaceable activation; the stem keeps ReLU.

    Stages after the last one of ``out_indices`` are built, so that state-dict keys do not depend
    on it, but they are not run and get no gradients, as in :class:`StagedBackbone`.

    With ``act_cfg=dict(type='ReLU')`` it has the state-dict keys and the outputs of
    ``mmpretrain.ResNet`` or, if ``se_ratio`` is given, of ``mmpretrain.SEResNet``. A checkpoint
    of that network therefore loads into any activation; what it lacks is the activations' own
    parameters. With ACON-A or ACON-C it then computes that network with Swish at the replaced
    positions.

    Args:
        depth: 18, 34, 50, 101 or 152.
        act_cfg: The config of the activation, such as ``dict(type='acon_mm.MetaAcon')``.
        placement: Which activations are replaced: in each block ``'one'`` (bottleneck: after the
            3×3 convolution; basic block: after the first convolution) or ``'all'``. None, the
            default, is the paper's choice: ``'one'`` for bottlenecks, ``'all'`` for basic blocks.
        se_ratio: The reduction of a squeeze-and-excitation layer before each addition, 16 in
            Table 6; None for no such layer.
        strides: The stride of each stage's first block.
        dilations: The dilation of each stage.
        contract_dilation: Whether the first block of a dilated stage has half the dilation, as
            in mmsegmentation.
        out_indices: The stages whose outputs are returned, out of 0 to 3.
        style: ``'pytorch'`` strides in the 3×3 convolution, ``'caffe'`` in the first 1×1
            convolution, which is where the authors' networks stride.
        frozen_stages: The stem (0) and the stages up to this one get no gradients and stay in
            eval mode, the norms inside Meta-ACON included; -1 freezes nothing.
        norm_eval: Whether all batch norms stay in eval mode, those inside Meta-ACON included.
        with_cp: Whether to recompute each block in the backward pass to save memory.
        **kwargs: The other arguments of ``mmpretrain.ResNet``: ``in_channels``,
            ``stem_channels``, ``base_channels``, ``expansion``, ``num_stages``, ``deep_stem``,
            ``avg_down``, ``conv_cfg``, ``norm_cfg``, ``zero_init_residual``, ``drop_path_rate``,
            ``init_cfg``. The norms inside the activations follow ``norm_cfg``, too, unless
            ``act_cfg`` names one.

    Shape:
        - Input: ``(N, in_channels, H, W)``.
        - Output: a tuple with a tensor ``(N, C_i, H_i, W_i)`` for each of ``out_indices``. For
          depth 50, ``C_i`` is 256, 512, 1024, 2048 and the stride 4, 8, 16, 32.

    Raises:
        ValueError: If an argument has a value that is not accepted; the message lists those that
            are.

    Examples:
        >>> import torch
        >>> from acon_mm.models import AconResNet
        >>> net = AconResNet(18, act_cfg=dict(type='acon_mm.AconC'), out_indices=(0, 3))
        >>> [tuple(out.shape) for out in net(torch.rand(1, 3, 64, 64))]
        [(1, 64, 16, 16), (1, 512, 2, 2)]
    """

    arch_settings = {  # noqa: RUF012
        depth: ({BasicBlock: AconBasicBlock, Bottleneck: AconBottleneck}[block], num_blocks)
        for depth, (block, num_blocks) in ResNet.arch_settings.items()
    }

    res_layers: list[str]

    def __init__(
        self,
        depth: int,
        *,
        act_cfg: dict = dict(type='acon_mm.MetaAcon'),  # noqa: B006
        placement: str | None = None,
        se_ratio: int | None = None,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        contract_dilation: bool = False,
        out_indices: Sequence[int] = (3,),
        style: str = 'pytorch',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        **kwargs: Any,
    ) -> None:
        num_stages = kwargs.get('num_stages', 4)
        check_choice('depth', depth, tuple(self.arch_settings))
        check_choice('placement', placement, (None, *PLACEMENTS))
        check_choice('style', style, STYLES)
        check_choice('num_stages', num_stages, range(1, 5))
        check_choice('frozen_stages', frozen_stages, range(-1, num_stages + 1))
        check_out_indices(out_indices, num_stages)
        for name, values in (('strides', strides), ('dilations', dilations)):
            if not isinstance(values, Sequence) or len(values) != num_stages:
                raise ValueError(
                    f'{name} must have one value for each of the {num_stages} stages, '
                    f'but it is {values!r}'
                )
        self.act_cfg = act_cfg
        self.placement = placement
        self.se_ratio = se_ratio
        self.contract_dilation = contract_dilation
        super().__init__(
            depth,
            strides=strides,
            dilations=dilations,
            out_indices=out_indices,
            style=style,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            **kwargs,
        )
        # What the forward pass runs.
        self.res_layers = self.res_layers[: max(out_indices) + 1]

    def make_res_layer(self, dilation: int, **kwargs: Any) -> nn.Module:
        """Build one stage."""
        layer = super().make_res_layer(
            dilation=dilation,
            act_cfg=self.act_cfg,
            placement=self.placement,
            se_ratio=self.se_ratio,
            **kwargs,
        )
        if self.contract_dilation and dilation > 1:
            layer[0].set_dilation(dilation // 2)
        return layer

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        for index in range(max(self.out_indices) + 1, self.num_stages):
            getattr(self, f'layer{index + 1}').requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the stages; it is mmpretrain's but for the norm of the stem."""
        x = self.stem(x) if self.deep_stem else norm_act(self.norm1, self.relu, self.conv1(x))
        x = self.maxpool(x)
        outs = []
        for index, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def init_weights(self) -> None:
        """Set the weights as ``init_cfg`` says; see :func:`check_pretrained` for checkpoints."""
        check_pretrained(self, ChannelActivation)
        super().init_weights()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's layer and how many there are.

        As mmpretrain does where it defines them, for 50 layers and more; else as
        :func:`.depth_by_block` does.
        """
        try:
            return super().get_layer_depth(param_name, prefix)
        except NotImplementedError:
            stages = {name: getattr(self, name) for name in self.res_layers}
            return depth_by_block(param_name, prefix, stages)

    def switch_to_deploy(self) -> None:
        """Switch all activations to the form for inference; mmpretrain's converter calls this."""
        switch_activations_to_deploy(self)

    def train(self, mode: bool = True) -> 'AconResNet':
        """Set the mode of all but the frozen parts, and return the network as torch does."""
        super().train(mode)  # mmpretrain's returns None
        return self
