"""What the reports of all benchmarks share: their head, Markdown tables, and where they go."""

from collections.abc import Sequence

from .benchmark_timing import Spread
from .markdown import NONE


def folded(title: str, parts: Sequence[str]) -> str:
    """Write parts that a reader unfolds by a click on their title."""
    return '\n\n'.join([f'<details>\n<summary>{title}</summary>', *parts, '</details>'])


def significant(value: float) -> str:
    """Write a positive number with three digits that mean something, none of them an exponent."""
    for bound, digits in ((100, 0), (10, 1), (1, 2), (0.1, 3)):
        if value >= bound:
            return f'{value:.{digits}f}'
    return f'{value:.4f}'


def milliseconds(spread: Spread) -> str:
    """Write the median and, in brackets, the 20th and the 80th percentile."""
    median, low, high = (
        significant(seconds * 1e3) for seconds in (spread.median, spread.low, spread.high)
    )
    return f'{median} ({low}–{high})'


def times(ratio: float | None) -> str:
    """Write a ratio."""
    return NONE if ratio is None else f'{ratio:.2f}×'


def mebibytes(nbytes: int) -> str:
    """Write bytes in units of 2²⁰."""
    return f'{nbytes / 2**20:.1f}'
