"""Show how far long work is: a bar with an estimate on a terminal, else a few plain lines."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar('T')

LINES = 4
"""How many lines tell the way where there is no terminal."""


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield some items and show on stderr how many have been worked on.

    Args:
        items: What to go through.
        description: What is done, such as ``'Predicting'``.
        total: How many there are. Defaults to their length, if they have one.

    Yields:
        The items.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as draw_bar

        yield from draw_bar(items, description, total, console=Console(stderr=True))
        return
    for number, item in enumerate(items, 1):
        yield item
        if total and number * LINES // total != (number - 1) * LINES // total:
            print(f'{description}: {number}/{total}', file=sys.stderr, flush=True)
