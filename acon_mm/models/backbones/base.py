"""What the backbones made of a stem and stages have in common."""

import math
from collections.abc import Collection, Mapping, Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from acon_mm.checkpoints.fitting import check_pretrained
from acon_mm.models.activations.acon import ChannelActivation
from acon_mm.models.activations.folding import switch_activations_to_deploy
from acon_mm.models.layers import checkpoint_block

PLACEMENTS = ('one', 'all')

# What mmpretrain's networks start from.
KAIMING = [
    dict(type='Kaiming', layer=['Conv2d']),
    dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
]


class StagedBackbone(BaseModule):
    """Run a stem and then the stages, and return the outputs of the stages that are asked for.

    A network builds its layers and passes them on; their names are the prefixes of the
    state-dict keys. Layers after the last stage that is asked for are not run and get no
    gradients, so that ``DistributedDataParallel`` does not wait for them.

    Args:
        stem: The layers before the stages, by name.
        stages: The stages, by name. An ``nn.Sequential`` is a row of blocks, anything else is a
            single block.
        out_indices: The stages whose outputs are returned, counted from 0.
        frozen_stages: The stem (0) and the first stages up to this count get no gradients and
            stay in eval mode, the norms inside Meta-ACON included; -1 freezes nothing.
        norm_eval: Whether all batch norms stay in eval mode, those inside Meta-ACON included.
        with_cp: Whether to recompute each block in the backward pass to save memory.
        init_cfg: mmengine's config of the initial values.

    Shape:
        - Input: ``(N, 3, H, W)``.
        - Output: a tuple with a tensor ``(N, C_i, H_i, W_i)`` for each of ``out_indices``, in the
          order of the stages.

    Raises:
        ValueError: If ``out_indices`` or ``frozen_stages`` names a stage that is not there, or an
            argument of a derived network has a value that is not accepted; the message lists
            those that are.
    """

    def __init__(
        self,
        stem: Mapping[str, nn.Module],
        stages: Mapping[str, nn.Module],
        *,
        out_indices: Sequence[int],
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_choice('frozen_stages', frozen_stages, range(-1, len(stages) + 1))
        check_out_indices(out_indices, len(stages))
        for name, layer in (*stem.items(), *stages.items()):
            self.add_module(name, layer)
        self.stem_names = tuple(stem)
        self.stage_names = tuple(stages)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        # Not only in train(): a distributed wrapper looks at requires_grad once, before that.
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        for name in self.stem_names:
            x = getattr(self, name)(x)
        outs = []
        for index, name in enumerate(self.stage_names[: max(self.out_indices) + 1]):
            stage = getattr(self, name)
            for block in stage if isinstance(stage, nn.Sequential) else (stage,):
                x = checkpoint_block(block, x) if self.with_cp else block(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def init_weights(self) -> None:
        """Set the weights as ``init_cfg`` says; see :func:`check_pretrained` for checkpoints."""
        check_pretrained(self, ChannelActivation)
        super().init_weights()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's layer and how many there are; see :func:`depth_by_block`."""
        stages = {name: getattr(self, name) for name in self.stage_names}
        return depth_by_block(param_name, prefix, stages)

    def switch_to_deploy(self) -> None:
        """Switch all activations to the form for inference; mmpretrain's converter calls this."""
        switch_activations_to_deploy(self)

    def train(self, mode: bool = True) -> 'StagedBackbone':
        """Set the mode of all but the frozen parts, and return the network."""
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages >= 0:
            for name in self.stem_names + self.stage_names[: self.frozen_stages]:
                getattr(self, name).eval().requires_grad_(False)
        for name in self.stage_names[max(self.out_indices) + 1 :]:
            getattr(self, name).requires_grad_(False)


def depth_by_block(
    param_name: str, prefix: str, stages: Mapping[str, nn.Module]
) -> tuple[int, int]:
    """Return the layer of a parameter, for learning rates that decay with the depth.

    The stem is layer 0, each block is a layer, and all that is not in the backbone is the last.
    ``mmpretrain.LearningRateDecayOptimWrapperConstructor`` asks for it.

    Args:
        param_name: The name of the parameter in the whole network.
        prefix: What the names of the backbone's parameters begin with, such as ``'backbone.'``.
        stages: The stages, by name; anything but an ``nn.Sequential`` is a single block.

    Returns:
        The layer and the number of layers.
    """
    blocks = [
        f'{name}.{index}.' if isinstance(stage, nn.Sequential) else f'{name}.'
        for name, stage in stages.items()
        for index in range(len(stage) if isinstance(stage, nn.Sequential) else 1)
    ]
    depth = len(blocks) + 1 if not param_name.startswith(prefix) else 0
    for layer, block in enumerate(blocks, 1):
        if param_name.startswith(prefix + block):
            depth = layer
    return depth, len(blocks) + 2


def check_choice(name: str, value: object, accepted: Collection) -> None:
    """Raise a ``ValueError`` that lists the accepted values if ``value`` is not one of them."""
    if value not in accepted:
        listed = ', '.join(map(repr, accepted))
        raise ValueError(f'{name} must be one of {listed}, but it is {value!r}')


def check_out_indices(out_indices: Sequence[int], num_stages: int) -> None:
    """Raise a ``ValueError`` unless ``out_indices`` names one or more of the stages."""
    if not isinstance(out_indices, Sequence) or not out_indices:
        raise ValueError(
            f'out_indices must be a sequence of the stages to return, such as '
            f'({num_stages - 1},), but it is {out_indices!r}'
        )
    for index in out_indices:
        check_choice('out_indices', index, range(num_stages))


def check_width(widen_factor: float) -> None:
    """Raise a ``ValueError`` if ``widen_factor`` is not a positive, finite number."""
    is_number = isinstance(widen_factor, (int, float)) and not isinstance(widen_factor, bool)
    if not is_number or not 0 < widen_factor < math.inf:
        raise ValueError(
            f'widen_factor must be a positive number, such as 0.25, but it is {widen_factor!r}'
        )


def act_cfgs(act_cfg: dict, placement: str, plain: str, count: int, replaced: int) -> list[dict]:
    """Return the config of the activation at each position of a block.

    Args:
        act_cfg: The config of the activation that replaces the plain one.
        placement: ``'all'`` replaces every one, ``'one'`` only that at the position ``replaced``.
        plain: The type of the activation that stays elsewhere, such as ``'ReLU'``.
        count: The number of positions.
        replaced: The position that ``'one'`` replaces.

    Returns:
        ``count`` configs.
    """
    other = dict(type=plain)
    return [act_cfg if placement == 'all' or i == replaced else other for i in range(count)]
