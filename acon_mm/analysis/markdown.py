"""Write tables as Markdown or for a terminal, and into Markdown files."""

from collections.abc import Sequence

from acon_mm.errors import UserError, requires_extra

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


def replace_between(text: str, mark: str, new: str) -> str:
    """Replace the part of a text between ``<!-- MARK -->`` and ``<!-- end of MARK -->``.

    Args:
        text: The Markdown text.
        mark: The name ``MARK``.
        new: The new part, without line breaks at its ends.

    Returns:
        The text with the new part.

    Raises:
        UserError: If the text does not have each line of the mark once, in this order.
    """
    start, end = f'<!-- {mark} -->\n', f'<!-- end of {mark} -->'
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    if text.count(start) != 1 or text.count(end) != 1 or end not in rest:
        raise UserError(
            f'{start.strip()!r} and {end!r} must be in the text once each, in this order'
        )
    return f'{before}{start}\n{new}\n\n{end}{after}'
