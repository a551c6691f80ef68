"""One fault, and how many of them are told."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

SHOWN = 3


class Fault(NamedTuple):
    """One fault of one file.

    Attributes:
        kind: What is wrong, as the start of a line; equal for all faults that belong together.
        where: The file, or the entry of a file.
        is_fatal: Whether a training has to be refused; else the library leaves the entry out.
    """

    kind: str
    where: str
    is_fatal: bool = True


def fault_lines(faults: Iterable[Fault]) -> list[str]:
    """Return a line for each kind of fault: how many there are, and the first names."""
    places = defaultdict(list)
    for fault in faults:
        places[fault.kind].append(fault.where)
    lines = []
    for kind, names in places.items():
        more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
        lines.append(f'{kind} ({len(names)}): {", ".join(names[:SHOWN])}{more}')
    return lines
