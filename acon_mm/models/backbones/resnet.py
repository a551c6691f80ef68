"""ResNet with a replaceable activation (https://arxiv.org/abs/2009.04759, section 4.1).

The network is mmpretrain's, whose stem, residual layers, freezing and initial values are used as
they are. Only the blocks differ: each position of an activation has a module of its own.
"""

from collections.abc import Sequence

import torch
from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from acon_mm.models.activations import build_activation
from acon_mm.registry import MODELS

PLACEMENTS = ('one', 'all')
STYLES = ('pytorch', 'caffe')


def _activations(
    act_cfg: dict, placement: str, replaced_by_one: int, channels: Sequence[int]
) -> list[nn.Module]:
    """Build a block's activations: ``act_cfg`` at the replaced positions, ReLU elsewhere."""
    return [
        build_activation(act_cfg, width)
        if placement == 'all' or position == replaced_by_one
        else nn.ReLU(inplace=True)
        for position, width in enumerate(channels)
    ]


class AconBasicBlock(BasicBlock):
    """The block of ResNet-18 and -34 with activations ``act1`` and ``act2``.

    Args:
        act_cfg: The config of the activation that replaces ReLU.
        placement: ``'one'`` replaces the activation after the first convolution, ``'all'`` the
            one after the addition as well. None is ``'all'``, as in the paper.
        **kwargs: The arguments of ``mmpretrain``'s ``BasicBlock``.
    """

    def __init__(self, act_cfg: dict, placement: str | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        del self.relu
        self.act1, self.act2 = _activations(
            act_cfg, placement or 'all', 0, (self.mid_channels, self.out_channels)
        )

    def set_dilation(self, dilation: int) -> None:
        """Give the dilated convolution another dilation, with the padding that keeps the size."""
        _set_dilation(self.conv1, dilation)

    def residual(self, x: Tensor) -> Tensor:
        """Compute the block up to the addition."""
        out = self.act1(self.norm1(self.conv1(x)))
        out = self.drop_path(self.norm2(self.conv2(out)))
        out += x if self.downsample is None else self.downsample(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.act2(_run(self.residual, x, self.with_cp))


class AconBottleneck(Bottleneck):
    """The block of ResNet-50, -101 and -152 with activations ``act1``, ``act2`` and ``act3``.

    Args:
        act_cfg: The config of the activation that replaces ReLU.
        placement: ``'one'`` replaces the activation after the 3×3 convolution, ``'all'`` every
            one. None is ``'one'``, as in the paper.
        **kwargs: The arguments of ``mmpretrain``'s ``Bottleneck``.
    """

    def __init__(self, act_cfg: dict, placement: str | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        del self.relu
        self.act1, self.act2, self.act3 = _activations(
            act_cfg,
            placement or 'one',
            1,
            (self.mid_channels, self.mid_channels, self.out_channels),
        )

    def set_dilation(self, dilation: int) -> None:
        """Give the dilated convolution another dilation, with the padding that keeps the size."""
        _set_dilation(self.conv2, dilation)

    def residual(self, x: Tensor) -> Tensor:
        """Compute the block up to the addition."""
        out = self.act1(self.norm1(self.conv1(x)))
        out = self.act2(self.norm2(self.conv2(out)))
        out = self.drop_path(self.norm3(self.conv3(out)))
        out += x if self.downsample is None else self.downsample(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.act3(_run(self.residual, x, self.with_cp))


def _run(function, x: Tensor, with_cp: bool) -> Tensor:
    if with_cp and torch.is_grad_enabled():
        return checkpoint(function, x, use_reentrant=False)
    return function(x)


def _set_dilation(conv: nn.Module, dilation: int) -> None:
    conv.dilation = conv.padding = (dilation, dilation)


@MODELS.register_module()
class AconResNet(ResNet):
    """ResNet whose blocks have a replaceable activation; the stem keeps ReLU.

    With ``act_cfg=dict(type='ReLU')`` it has the state-dict keys and the outputs of
    ``mmpretrain.ResNet``. A checkpoint of that network therefore loads into any activation; what
    it lacks is the activations' own parameters. With ACON-A or ACON-C it then computes that
    network with Swish at the replaced positions.

    Args:
        depth: 18, 34, 50, 101 or 152.
        act_cfg: The config of the activation, such as ``dict(type='acon_mm.MetaAcon')``.
        placement: Which activations of a block are replaced: ``'one'`` (bottleneck: after the
            3×3 convolution; basic block: after the first convolution) or ``'all'``. None, the
            default, is the paper's choice: ``'one'`` for bottlenecks, ``'all'`` for basic blocks.
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
            ``init_cfg``.

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

    def __init__(
        self,
        depth: int,
        *,
        act_cfg: dict = dict(type='acon_mm.MetaAcon'),  # noqa: B006
        placement: str | None = None,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        contract_dilation: bool = False,
        out_indices: Sequence[int] = (3,),
        style: str = 'pytorch',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        **kwargs,
    ) -> None:
        num_stages = kwargs.get('num_stages', 4)
        _check('depth', depth, tuple(self.arch_settings))
        _check('placement', placement, (None, *PLACEMENTS))
        _check('style', style, STYLES)
        _check('num_stages', num_stages, range(1, 5))
        _check('frozen_stages', frozen_stages, range(-1, num_stages + 1))
        for index in out_indices:
            _check('out_indices', index, range(num_stages))
        for name, values in (('strides', strides), ('dilations', dilations)):
            if len(values) != num_stages:
                raise ValueError(
                    f'{name} must have one value for each of the {num_stages} stages, '
                    f'but it is {values!r}'
                )
        self.act_cfg = act_cfg
        self.placement = placement
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

    def make_res_layer(self, dilation: int, **kwargs) -> nn.Module:
        """Build one stage."""
        layer = super().make_res_layer(
            dilation=dilation, act_cfg=self.act_cfg, placement=self.placement, **kwargs
        )
        if self.contract_dilation and dilation > 1:
            layer[0].set_dilation(dilation // 2)
        return layer

    def train(self, mode: bool = True) -> 'AconResNet':
        """Set the mode of all but the frozen parts, and return the network as torch does."""
        super().train(mode)  # mmpretrain's returns None
        return self


def _check(name: str, value, accepted: Sequence) -> None:
    if value not in accepted:
        listed = ', '.join(map(repr, accepted))
        raise ValueError(f'{name} must be one of {listed}, but it is {value!r}')
