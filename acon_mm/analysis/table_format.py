"""Write tables of the paper as text, Markdown or JSON, and into READMEs."""

import json
import posixpath
import re
from collections.abc import Sequence
from dataclasses import asdict

from acon_mm.errors import UserError

from .markdown import NONE, markdown_table, replace_between
from .paper_tables import SIZES, Row, Table, paper_tables, parse_quantity


def format_tables(tables: Sequence[Table], kind: str = 'text', base: str = '.') -> str:
    """Write tables, the paper's figures and ours in neighbouring columns.

    Where our count of parameters or FLOPs is further off than the paper's rounding, it carries a
    star, and a line below the table says how far and why. A metric that runs here measured is
    followed by its difference to the paper's; one that none measured has the paper's column alone.

    Args:
        tables: The tables.
        kind: ``'text'``, ``'markdown'`` or ``'json'``.
        base: The folder below the root of the project that links in Markdown start from.

    Returns:
        The text, without a line break at its end.

    Raises:
        UserError: If ``kind`` is none of the three.
    """
    if kind not in ('text', 'markdown', 'json'):
        raise UserError(f'kind={kind!r} is unknown; use one of text, markdown, json')
    if kind == 'json':
        return json.dumps([_as_json(t) for t in tables], indent=2, ensure_ascii=False)
    parts = []
    for table in tables:
        head = f'Table {table.number}: {table.title}'
        header, rows = _cells(table)
        if kind == 'text':
            parts += [head, markdown_table(header, rows, 'simple'), *_notes(table, '*')]
        else:
            for row, cells in zip(table.rows, rows, strict=True):
                cells[0] = f'[{row.model}]({posixpath.relpath(row.config, base)})'
            parts += [f'**{head}**', markdown_table(header, rows), *_notes(table, r'\*')]
    return '\n\n'.join(parts)


def fill_tables(text: str, base: str = '.') -> str:
    """Rewrite the tables that a Markdown text asks for.

    They are between the lines ``<!-- tables 2,3 -->`` and ``<!-- end of tables 2,3 -->``.

    Args:
        text: The Markdown text.
        base: The folder of the text below the root of the project, where links start from.

    Returns:
        The text with the part between these lines replaced; the same text if nothing changed.

    Raises:
        UserError: If one of the two lines is missing, or there is no such table.
    """
    for mark, numbers in re.findall(r'<!-- (tables ([\d,]+)) -->\n', text):
        tables = paper_tables([int(number) for number in numbers.split(',')])
        text = replace_between(text, mark, format_tables(tables, 'markdown', base))
    return text


def _as_json(table: Table) -> dict:
    rows = [
        asdict(row)
        | {
            'deviates': [name for name in row.ours if row.deviates(name)],
            'differences': row.differences(),
        }
        for row in table.rows
    ]
    return asdict(table) | {'rows': rows}


def _cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of each row."""
    with_ours = {name for row in table.rows for name in row.ours if name in row.paper}
    measured = {name for row in table.rows for name in row.differences()}
    header, rows = ['Model'], [[row.model] for row in table.rows]
    for name in table.columns():
        header += [name, *['ours'] * (name in with_ours), *['difference'] * (name in measured)]
        for row, cells in zip(table.rows, rows, strict=True):
            cells.append(str(row.paper.get(name, NONE)))
            if name in with_ours:
                cells.append(_ours(row, name) + ('*' if row.deviates(name) else ''))
            if name in measured:
                difference = row.differences().get(name)
                cells.append(NONE if difference is None else f'{difference:+.2f}')
    return header, rows


def _ours(row: Row, name: str) -> str:
    value = row.ours.get(name)
    if value is None or name not in row.paper:
        return NONE
    if name == 'Parameters':
        return f'{value / 1e6:.2f}M'
    if name == 'FLOPs':
        return f'{value / 1e9:.2f}G' if value >= 1e9 else f'{value / 1e6:.1f}M'
    return f'{value:.2f}'


def _notes(table: Table, star: str) -> list[str]:
    """Return the notes below a table as one paragraph, or nothing."""
    notes = [table.note] if table.note else []
    for row in table.rows:
        off = []
        for name in table.columns():
            if row.deviates(name):
                share = row.ours[name] / parse_quantity(row.paper[name]) - 1
                off.append(f'{name} {_ours(row, name)} against {row.paper[name]} ({share:+.1%})')
        if off:
            notes.append(f'- {star} {row.model}: {"; ".join(off)}. {row.note}')
        elif row.note and set(SIZES) & set(row.paper):
            notes.append(f'- {row.model}: {row.note}')
    return ['\n'.join(notes)] if notes else []
