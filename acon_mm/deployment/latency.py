"""The time that a file takes beside the same network with ReLU."""

import statistics
import time
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from mmengine.config import Config
from torch import Tensor

from acon_mm.errors import UserError
from acon_mm.models.activations.build import OWN_TYPES

from .formats import Function


def relu_twin(cfg: Config) -> Config:
    """Return a config with ReLU wherever the model has an activation of acon_mm.

    Args:
        cfg: The config of a model, which is left as it is.

    Raises:
        UserError: If its model names none.
    """
    twin = deepcopy(cfg)
    twin.model, count = _with_relu(twin.model)
    if not count:
        raise UserError(
            f'config {cfg.filename} has no activation of acon_mm in its model, so that it has no '
            'twin with ReLU to be timed beside; leave --latency out'
        )
    return twin


def _with_relu(node: Any) -> tuple[Any, int]:
    if isinstance(node, dict) and node.get('type') in OWN_TYPES:
        return type(node)(type='ReLU'), 1
    total = 0
    if isinstance(node, (dict, list)):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            node[key], count = _with_relu(node[key])
            total += count
    return node, total


def median_milliseconds(
    functions: Sequence[Function], inputs: tuple[Tensor, ...], rounds: int = 100
) -> list[float]:
    """Time functions in turn, so that what slows the machine slows all of them.

    Args:
        functions: The functions.
        inputs: What each is called with.
        rounds: How often each is timed, after three calls that do not count.

    Returns:
        The median of the milliseconds of each.
    """
    samples: list[list[float]] = [[] for _ in functions]
    for number in range(-3, rounds):
        for function, taken in zip(functions, samples, strict=True):
            start = time.perf_counter()
            function(*inputs)
            if number >= 0:
                taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in samples]
