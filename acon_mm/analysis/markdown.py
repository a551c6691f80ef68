"""Write tables, for Markdown files and for a terminal."""

from collections.abc import Sequence

from acon_mm.errors import requires_extra

NONE = '–'
"""The cell of a figure that does not exist."""


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], style: str = 'pipe'
) -> str:
    """Write a table, the first column aligned to the left and the others to the right.

    Args:
        header: The names of the columns.
        rows: The cells, written as they are.
        style: One of tabulate's formats: ``'pipe'`` is Markdown, ``'simple'`` is for a terminal.

    Returns:
        The table, without a line break at its end.
    """
    with requires_extra('analysis', 'writing tables'):
        from tabulate import tabulate
    align = ('left', *['right'] * (len(header) - 1))
    return tabulate(rows, header, style, disable_numparse=True, colalign=align if rows else None)
