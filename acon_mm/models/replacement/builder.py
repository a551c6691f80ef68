"""The registered builder, which gives a config's network other activations."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from acon_mm.errors import UserError
from acon_mm.registry import MODELS

from .example_input import SIZES, example_input, forward_of, shaped_input
from .replace import replace_activations
from .runs import DryRunError


@MODELS.register_module(name='ReplaceActivations')
def build_with_replaced_activations(
    module: dict | str | type,
    act_cfg: dict,
    *,
    replace: Sequence[str | type] | None = None,
    where: str | Sequence[str] | None = None,
    where_not: str | Sequence[str] | None = None,
    stages: Sequence[int] | None = None,
    one_per_block: bool = False,
    like_replaced: bool = False,
    input_shape: Sequence | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a module from its config and replace its activations.

    The module is what any config may name: a backbone, a neck, a head or a whole model, of any
    library. It stays an instance of its class, with its state-dict keys, ``init_cfg`` and frozen
    stages.

    Args:
        module: The config of the module. Or its type alone: the keys of its config are then
            those besides the arguments of this function, so that a config that inherits a model
            need only change its ``type``.
        act_cfg: The config of the new activation, such as ``dict(type='acon_mm.MetaAcon')``.
        replace: See :func:`replace_activations`, as for those that follow.
        where: See there.
        where_not: See there.
        stages: See there.
        one_per_block: See there.
        like_replaced: See there.
        input_shape: The shape of an input of the module without the samples, ``(3, 224, 224)``,
            or a list of the shapes of several maps. By default it is made from the
            ``in_channels`` of the module.
        **kwargs: What is added to the config of the module, as detectors do for their heads.

    Returns:
        The module.

    Raises:
        UserError: As :func:`replace_activations` does.

    Examples:
        >>> backbone = MODELS.build(
        ...     dict(
        ...         type='acon_mm.ReplaceActivations',
        ...         module=dict(type='mmpretrain.MobileNetV2', widen_factor=0.25),
        ...         act_cfg=dict(type='acon_mm.AconC'),
        ...     )
        ... )
        >>> backbone.conv1.activate
        AconC(8, init='paper')
    """
    cfg = dict(module) if isinstance(module, Mapping) else dict(type=module)
    for key, value in kwargs.items():
        if key != 'data_preprocessor' or key not in cfg:  # a runner gives it as a default
            cfg[key] = value
    built = MODELS.build(cfg)
    inputs = (
        [shaped_input(input_shape)]
        if input_shape
        else [example_input(built, cfg, size) for size in SIZES]
    )
    error: UserError | None = None
    for value in inputs:
        try:
            return replace_activations(
                built,
                value,
                act_cfg,
                replace=replace,
                where=where,
                where_not=where_not,
                stages=stages,
                one_per_block=one_per_block,
                like_replaced=like_replaced,
                forward=forward_of(built),
            )
        except DryRunError as found:  # nothing has changed yet
            error = found
    assert error is not None
    raise UserError(f'{error}, as input_shape=(3, 224, 224)') from error
