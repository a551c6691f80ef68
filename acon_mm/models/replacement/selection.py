"""Which activations of a network are replaced."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from acon_mm.errors import UserError
from acon_mm.registry import type_name

from .dry_run import Event
from .report import shorten
from .runs import Runs

ELEMENT_WISE = (
    *('ReLU', 'ReLU6', 'LeakyReLU', 'PReLU', 'RReLU', 'ELU', 'CELU', 'SELU', 'GELU'),
    *('SiLU', 'Swish', 'Mish', 'Hardswish', 'HSwish', 'QuickGELU', 'Softplus'),
)
"""The classes of torch, mmcv and others that are replaced by default. Sigmoid, Softmax and the
like are gates."""


@dataclass(frozen=True)
class Selection:
    """Say which activations are replaced; gates and what is not called stay in any case.

    Attributes:
        replace: The names of classes.
        where: Patterns with ``*``; one of them has to match the activation's name. Empty for all.
        where_not: Patterns, none of which may match.
        stages: Numbers of stages, as the names count them: ``layer3.0.relu`` and
            ``stages.3.1.act`` are in stage 3. None for all, and for what has no number.
        one_per_block: Whether of each block only the activation after its first convolution
            larger than 1×1 is replaced or, if it has none, its first activation.
    """

    replace: Collection[str] = ELEMENT_WISE
    where: Sequence[str] = ()
    where_not: Sequence[str] = ()
    stages: Collection[int] | None = None
    one_per_block: bool = False

    def why_left(self, name: str) -> str | None:
        """Return why an activation is left as it is by its name, None if it is replaced."""
        if self.where and not any(fnmatchcase(name, pattern) for pattern in self.where):
            return 'is not in `where`'
        if any(fnmatchcase(name, pattern) for pattern in self.where_not):
            return 'is in `where_not`'
        if self.stages is not None and _stage(name) not in self.stages:
            return 'is in none of `stages`'
        return None


def make_selection(
    replace: Sequence[str | type] | None,
    where: str | Sequence[str] | None,
    where_not: str | Sequence[str] | None,
    stages: Sequence[int] | None,
    one_per_block: bool,
) -> Selection:
    """Make a selection of what a config gives: one pattern or several, names or classes."""
    kinds = ELEMENT_WISE if replace is None else tuple(map(type_name, _listed(replace)))
    return Selection(kinds, _listed(where), _listed(where_not), stages, one_per_block)


def _listed(value: object) -> tuple:
    if value is None:
        return ()
    return (value,) if isinstance(value, (str, type)) else tuple(value)  # type: ignore[arg-type]


def find_activations(network: nn.Module, replace: Collection[str]) -> dict[str, nn.Module]:
    """Return the activations of a network by name.

    One that several modules hold is returned with all of its names; a module that is in the
    network several times with the first of its own.

    Args:
        network: The network.
        replace: The names of their classes.
    """
    found, slots = {}, set()
    for name, module in network.named_modules(remove_duplicate=False):
        parent, _, attribute = name.rpartition('.')
        if name and type(module).__name__ in replace:
            slot = (id(network.get_submodule(parent)), attribute)
            if slot not in slots:
                slots.add(slot)
                found[name] = module
    return found


def first_of_blocks(names: Iterable[str], runs: Runs, stock: Mapping[str, str]) -> set[str]:
    """Return the activation of each block that ``one_per_block`` replaces.

    A block is what the last number in a name counts, such as ``layer1.0``.

    Args:
        names: The activations.
        runs: What the runs of the network showed.
        stock: The names that they have in the stock network, where they differ.
    """
    blocks: dict[str, list[str]] = {}
    for name in names:
        block = re.sub(r'(?<=\d)\.\D.*$', '', stock.get(name, name))
        blocks.setdefault(block if any(c.isdigit() for c in block) else name, []).append(name)
    order = {event.name: event for event in reversed(runs.first.events)}
    chosen: set[str] = set()
    for members in blocks.values():
        called = [order[name] for name in members if name in order]
        spatial = [event for event in called if _is_spatial(event)]
        chosen.update(event.name for event in (spatial or called)[:1] if event.name)
    return chosen


def _is_spatial(event: Event) -> bool:
    size = getattr(event.conv, 'kernel_size', 1)
    return max(size) > 1 if isinstance(size, tuple) else size > 1


def _stage(name: str) -> int | None:
    number = re.search(r'(\d+)(?=\.)', name)
    return int(number[1]) if number else None


def check_not_empty(
    chosen: Collection[str], left: Mapping[str, str], functions: Sequence[str]
) -> None:
    """Raise a ``UserError`` that says what is there if nothing is chosen."""
    if not chosen:
        parts = [
            shorten([f'{name} {reason}' for name, reason in left.items()]),
            shorten([f'{place} is no module' for place in functions]),
        ]
        raise UserError(
            'replace, where, where_not and stages leave no activation to replace: '
            + ('; '.join(filter(None, parts)) or 'the network has none of these classes')
        )
