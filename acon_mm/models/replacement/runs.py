"""The runs of a network that show its activations: with more samples, larger, in training mode."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from acon_mm.errors import UserError

from .dry_run import Trace, dry_run


class DryRunError(UserError):
    """A network does not run on the input that it was given."""


class Runs(NamedTuple):
    """What the runs showed.

    Attributes:
        first: On the input as it was given.
        more: With one more sample.
        larger: With twice the height and width; None if the network refuses that.
        training: In training mode; None if the network refuses that.
    """

    first: Trace
    more: Trace
    larger: Trace | None
    training: Trace | None

    @property
    def made(self) -> list[Trace]:
        """The runs that were made."""
        return [trace for trace in self if trace is not None]


def make_runs(
    network: nn.Module,
    activations: Mapping[str, nn.Module],
    forward: Callable[[Any], Any],
    example: Any,
) -> Runs:
    """Run a network in four ways and record the calls of its activations.

    Args:
        network: The network, which is left as it is.
        activations: Those of its modules that are recorded, by name.
        forward: What runs the network on an input.
        example: The input: a tensor of samples, or a list, tuple or dict of such tensors.

    Returns:
        What was recorded.

    Raises:
        DryRunError: If the network does not run on the input.
    """
    inputs = [_map(example, _two_or_more), _map(example, _one_more)]
    try:
        first, more = (dry_run(network, activations, partial(forward, x)) for x in inputs)
    except Exception as error:  # the network may raise anything
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise DryRunError(
            f'{type(network).__name__} does not run on the example input '
            f'({", ".join(_shapes(inputs[0]))}), which shows the widths of its activations: '
            f'{type(error).__name__}: {reason}; give an input that it takes'
        ) from error
    larger = training = None
    with suppress(Exception):  # many networks are made for one size
        larger = dry_run(network, activations, partial(forward, _map(inputs[0], _enlarged)))
    with suppress(Exception):  # some need targets then
        training = dry_run(network, activations, partial(forward, inputs[0]), training=True)
    return Runs(first, more, larger, training)


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _map(item, function) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return type(value)(_map(item, function) for item in value)  # type: ignore[call-arg]
    return value


def _shapes(value: Any) -> list[str]:
    if isinstance(value, Tensor):
        return [str(tuple(value.shape))]
    if isinstance(value, Mapping):
        return _shapes(list(value.values()))
    return [s for item in value for s in _shapes(item)] if isinstance(value, Sequence) else []


def _two_or_more(x: Tensor) -> Tensor:
    return x if x.size(0) > 1 else torch.cat([x, x])


def _one_more(x: Tensor) -> Tensor:
    x = _two_or_more(x)
    return torch.cat([x, x[:1]])


def _enlarged(x: Tensor) -> Tensor:
    return x.repeat(1, 1, *(2 for _ in x.shape[2:]))
