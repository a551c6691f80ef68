"""Keep the tables in READMEs what the metafiles say."""

import re

from .paper_tables import paper_table
from .table_format import format_tables

_BLOCK = re.compile(r'(<!-- tables ([\d,]+) -->\n).*?(<!-- end of tables -->)', re.DOTALL)


def fill_tables(text: str, base: str = '.') -> str:
    """Write the tables anew that a Markdown text asks for.

    They stand between the lines ``<!-- tables 2,3 -->`` and ``<!-- end of tables -->``.

    Args:
        text: The Markdown text.
        base: The folder of the text below the root of the project, where links start from.

    Returns:
        The text with what stands between these lines replaced; the same text if nothing changed.
    """

    def block(match: re.Match) -> str:
        tables = [paper_table(int(number)) for number in match[2].split(',')]
        return f'{match[1]}\n{format_tables(tables, "markdown", base)}\n\n{match[3]}'

    return _BLOCK.sub(block, text)
