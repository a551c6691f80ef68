"""Keep the tables in READMEs what the metafiles say."""

import re

from .marks import replace_between
from .paper_tables import paper_table
from .table_format import format_tables


def fill_tables(text: str, base: str = '.') -> str:
    """Write the tables anew that a Markdown text asks for.

    They stand between the lines ``<!-- tables 2,3 -->`` and ``<!-- end of tables 2,3 -->``.

    Args:
        text: The Markdown text.
        base: The folder of the text below the root of the project, where links start from.

    Returns:
        The text with what stands between these lines replaced; the same text if nothing changed.

    Raises:
        UserError: If one of the two lines is missing, or there is no such table.
    """
    for mark, numbers in re.findall(r'<!-- (tables ([\d,]+)) -->\n', text):
        tables = [paper_table(int(number)) for number in numbers.split(',')]
        text = replace_between(text, mark, format_tables(tables, 'markdown', base))
    return text
