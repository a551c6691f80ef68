"""Replace what stands between two marks of a Markdown file: generated tables.

A mark is a line that a reader of the rendered file does not see: ``<!-- MARK -->`` before the
generated part, ``<!-- end of MARK -->`` after it.
"""

from acon_mm.errors import UserError


def replace_between(text: str, mark: str, new: str) -> str:
    """Replace the part between the two lines of a mark.

    Args:
        text: The Markdown text.
        mark: The name of the mark.
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
            f'{start.strip()!r} and {end!r} must stand in the text once, in this order'
        )
    return f'{before}{start}\n{new}\n\n{end}{after}'
