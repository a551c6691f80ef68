"""Find how many channels an activation has, and where, from what it was called on."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from .dry_run import Event, channel_dim_of
from .runs import Runs

NOT_CALLED = 'is not called'


class Channels(NamedTuple):
    """The channels of an activation.

    Attributes:
        widths: Their number; several, in ascending order, if calls differ in it.
        dim: Their dimension: 1, or -1 for the last one.
    """

    widths: tuple[int, ...]
    dim: int


def find_channels(name: str, runs: Runs) -> Channels | str:
    """Find the channels of an activation.

    The dimension of the channels neither changes with the number of samples nor with the size of
    the image. Where this holds for more than one dimension, as in networks that take one size
    only, the layer before the activation decides.

    Args:
        name: The activation.
        runs: What the runs of the network showed.

    Returns:
        The channels, or the reason why the activation has none that it could use.
    """
    calls = [trace.calls(name) for trace in runs.made]
    if not any(calls):
        return NOT_CALLED
    first, more = runs.first.calls(name), runs.more.calls(name)
    larger = runs.larger.calls(name) if runs.larger else []
    if not first:  # in training mode only
        first = more = max(calls, key=len)
    widths, dims = set(), set()
    for i, event in enumerate(first):
        others = [calls[i] for calls in (more, larger) if len(calls) == len(first)]
        found = _channels_of(event, others)
        if isinstance(found, str):
            return found
        widths.add(found[0])
        dims.add(found[1])
    if len(dims) > 1:
        listed = ' and '.join(map(str, sorted(widths)))
        return f'is called with {listed} channels, in dimension 1 and in the last one'
    return Channels(tuple(sorted(widths)), dims.pop())


def _channels_of(event: Event, others: Sequence[Event]) -> tuple[int, int] | str:
    shape = event.shape
    if len(shape) < 2:
        return f'gets the shape {shape}, which has no channels'
    same_rank = [other.shape for other in others if len(other.shape) == len(shape)]
    fixed = [d for d in range(len(shape)) if all(s[d] == shape[d] for s in same_rank)]
    if same_rank and 0 in fixed:
        return f'gets the shape {shape}, whose first dimension is not that of the samples'
    candidates = [d for d in fixed if d > 0]
    candidates = [d for d in candidates if shape[d] > 1] or candidates
    last = len(shape) - 1
    dim = candidates[0] if len(candidates) == 1 else None
    if dim is None:
        of_layer = event.layer and channel_dim_of(event.layer)
        dim = last if of_layer == -1 else 1
    if dim not in (1, last):
        return f'gets the shape {shape}, whose channels are neither dimension 1 nor the last'
    return shape[dim], 1 if dim == 1 else -1


def is_gate(name: str, runs: Runs) -> bool:
    """Return whether an activation belongs to a gate, as in squeeze-and-excitation.

    It has one value per channel, whatever the size of the image, and the next to be called is a
    sigmoid or a softmax, again on as many values whatever the size.

    Args:
        name: The activation.
        runs: What the runs of the network showed.
    """
    traces = [trace for trace in (runs.first, runs.larger) if trace is not None]
    nexts = [_values_of_next(trace.events, name) for trace in traces]
    return None not in nexts and len(set(nexts)) == 1


def _values_of_next(events: Sequence[Event], name: str) -> int | None:
    """Return the number of values per sample in the gate after a call on a pooled map."""
    for event, after in pairwise(events):
        if event.name == name:
            pixels = [size for size in event.shape[1:] if size > 1]
            if after.name is None and len(pixels) < 2:
                values = 1
                for size in after.shape[1:]:
                    values *= size
                return values
            return None
    return None
