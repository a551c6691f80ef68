"""Replace the activations of a network that somebody else has written."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from acon_mm.errors import UserError
from acon_mm.models.activations import AconFReLU, build_activation
from acon_mm.models.activations.acon import ChannelActivation
from acon_mm.registry import type_name

from .call_sites import separate_calls
from .channels import NOT_CALLED, Channels, find_channels, is_gate
from .fusion import fuse_norms
from .likeness import copy_slope, start_like
from .loading import accept_stock_weights
from .per_width import ActivationPerWidth
from .report import Replacement
from .runs import Runs, make_runs
from .selection import (
    Selection,
    check_not_empty,
    find_activations,
    first_of_blocks,
    make_selection,
)


def replace_activations(
    model: nn.Module,
    example_input: Any,
    act_cfg: dict,
    *,
    replace: Sequence[str | type] | None = None,
    where: str | Sequence[str] | None = None,
    where_not: str | Sequence[str] | None = None,
    stages: Sequence[int] | None = None,
    one_per_block: bool = False,
    like_replaced: bool = False,
    forward: Callable[[Any], Any] | None = None,
) -> nn.Module:
    """Replace the activations of a network, whose classes and other parameters stay.

    A few runs of the network on ``example_input`` show where each activation is called and how
    many channels it gets there. A module that a block calls several times becomes several: those
    after the first are called ``relu_2``, ``relu_3``. Where a loop calls it with several widths,
    it becomes one per width. mmcv's ``ConvModule`` computes its norm and ACON in one operator. A
    line is logged that says what was done.

    Replace before the optimiser is built. Weights of the network as it was load into it; a warning
    then names the activations that keep their first values.

    Args:
        model: The network. It is changed.
        example_input: What ``model`` takes: a tensor of samples, such as ``(1, 3, 64, 64)``, or a
            list, tuple or dict of tensors, passed as one argument. Twice its height and width is
            tried as well.
        act_cfg: The config of the activation, such as ``dict(type='acon_mm.MetaAcon')``.
        replace: The classes of activations to replace, or their names; by default
            :data:`~acon_mm.models.replacement.selection.ELEMENT_WISE`.
        where: Replace only activations whose names match one of these patterns, such as
            ``'backbone.*'``.
        where_not: Leave those whose names match one of these.
        stages: Replace only those in these stages, by the first number in their names:
            ``layer3.0.relu`` is in stage 3.
        one_per_block: Replace one activation of each block: that after the first convolution
            larger than 1×1, the paper's choice for bottlenecks, or else the first.
        like_replaced: Start with ACON close to the activation that it replaces, so that the
            network computes what it did. See :mod:`acon_mm.models.replacement.likeness`.
        forward: What runs the network on ``example_input``; by default the network itself.

    Returns:
        ``model``.

    Raises:
        UserError: If nothing is left to replace, the network does not run on ``example_input``,
            or an activation is called with its channels in different dimensions.

    Examples:
        >>> import torch
        >>> from torch import Tensor, nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> replace_activations(net, torch.rand(1, 3, 8, 8), dict(type='acon_mm.AconC'))[1]
        AconC(8, init='paper')
    """
    selection = make_selection(replace, where, where_not, stages, one_per_block)
    forward = forward or model
    stock, shared, functions = _separate(model, selection, forward, example_input)
    activations = find_activations(model, selection.replace)
    runs = make_runs(model, activations, forward, example_input)
    channels, left = _sort(activations, selection, runs, stock)
    left = {name: why for name, why in left.items() if name not in shared or why != NOT_CALLED}
    check_not_empty(channels, left, functions)
    layers = {event.name: event.conv for trace in runs.made for event in trace.events}
    built = {
        name: _build(act_cfg, found, name, model, layers[name], like_replaced)
        for name, found in channels.items()
    }
    for name in set().union(*(trace.overwritten for trace in runs.made)) & built.keys():
        built[name].register_forward_pre_hook(_copy_input)
    for name, new in built.items():
        _put(model, name, new)
    fuse_norms(model)
    accept_stock_weights(model)
    model.train(model.training)  # many networks freeze their stages here
    kind = type_name(act_cfg['type'])
    done = Replacement(type(model).__name__, kind, channels, left, functions)
    print_log(str(done), logger='current')
    return model


def _separate(
    model: nn.Module, selection: Selection, forward: Callable[[Any], Any], example: Any
) -> tuple[dict[str, str], set[str], list[str]]:
    """Give each call of a selected activation a module of its own, where it has not.

    Returns:
        The names of the new modules and those that they had before; the names that a module had
        besides others; and the places at which functions such as ``F.relu`` are called.
    """
    activations = find_activations(model, selection.replace)
    runs = make_runs(model, activations, forward, example)
    stock: dict[str, str] = {}
    shared: set[str] = set()
    seen: dict[int, str] = {}
    for name, module in activations.items():
        if selection.why_left(name) is not None:
            continue
        if id(module) in seen:
            shared |= {name, seen[id(module)]}
            _put(model, name, module := deepcopy(module))
        seen[id(module)] = name
        if any(len(trace.calls(name)) > 1 for trace in runs.made):
            parent, _, attribute = name.rpartition('.')
            owner = model.get_submodule(parent)
            for new in separate_calls(owner, attribute):
                owner.add_module(new, deepcopy(module))
                stock[f'{parent}.{new}'.lstrip('.')] = name
    return stock, shared, list(dict.fromkeys(f for trace in runs.made for f in trace.functions))


def _sort(
    activations: Mapping[str, nn.Module],
    selection: Selection,
    runs: Runs,
    stock: Mapping[str, str],
) -> tuple[dict[str, Channels], dict[str, str]]:
    """Return the channels of what is replaced, and why the others are left, by name."""
    channels, left = {}, {}
    for name in activations:
        reason = selection.why_left(stock.get(name, name))
        found = find_channels(name, runs)
        if reason is None and is_gate(name, runs):
            reason = 'belongs to a gate'
        if reason is None and isinstance(found, str):
            reason = found
        if reason is not None:
            left[name] = reason
        elif isinstance(found, Channels):
            channels[name] = found
    _check_widths(left)
    if selection.one_per_block:
        chosen = first_of_blocks(channels, runs, stock)
        left |= {name: 'is not that of its block' for name in channels if name not in chosen}
        channels = {name: found for name, found in channels.items() if name in chosen}
    return channels, left


def _check_widths(left: Mapping[str, str]) -> None:
    shared = [name for name, reason in left.items() if reason.startswith('is called with')]
    if shared:
        name = shared[0]
        raise UserError(
            f'the activation {name!r} {left[name]}'
            + (f', as are {len(shared) - 1} others' if len(shared) > 1 else '')
            + f'; leave it as it is with where_not={shared!r}, or give each call in the network '
            'an activation of its own'
        )


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition('.')
    setattr(model.get_submodule(parent), attribute, module)


def _build(
    act_cfg: dict,
    channels: Channels,
    name: str,
    model: nn.Module,
    layer: nn.Module | None,
    like_replaced: bool,
) -> nn.Module:
    """Build what takes the place of an activation after a convolution or linear layer."""
    replaced = model.get_submodule(name)
    cfg = start_like(act_cfg, replaced) if like_replaced else act_cfg
    parts = [build_activation(cfg, width, _norm_cfg(model)) for width in channels.widths]
    for part in parts:
        if like_replaced:
            copy_slope(part, replaced)
        if isinstance(part, AconFReLU) and channels.dim != 1:
            raise UserError(
                f'act_cfg must not be {act_cfg!r} at {name!r}, where the channels are the last '
                'dimension; use another activation there, or leave it with where_not'
            )
        if isinstance(part, ChannelActivation):
            part.channel_dim = channels.dim
    new = parts[0] if len(parts) == 1 else ActivationPerWidth(channels, parts)
    if layer is not None:
        weight = next(layer.parameters())
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        new.to(weight.device, wide)
        new.requires_grad_(weight.requires_grad)  # frozen with the stage that it is in
    return new


def _copy_input(activation: nn.Module, args: tuple[Tensor]) -> Tensor:
    """Leave the input to the network, which changes it in place afterwards."""
    return args[0].clone()


def _norm_cfg(model: nn.Module) -> dict | None:
    """Return the config of the network's batch norms, for those inside Meta-ACON."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            kind = 'SyncBN' if isinstance(module, nn.SyncBatchNorm) else 'BN'
            return dict(type=kind, momentum=module.momentum, eps=module.eps)
    return None
