"""Write tables of the paper as text, Markdown or JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath

from acon_mm.errors import UserError

from .paper_tables import SIZES, Row, Table, parse_quantity

_NONE = '–'


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
    kinds = {'text': _text, 'markdown': lambda t: _markdown(t, base), 'json': _json}
    if kind not in kinds:
        raise UserError(f'kind={kind!r} is unknown; use one of {", ".join(kinds)}')
    return kinds[kind](tables)


def _json(tables: Sequence[Table]) -> str:
    listed = []
    for table in tables:
        rows = [
            asdict(row)
            | {
                'deviates': [name for name in row.ours if row.deviates(name)],
                'differences': row.differences(),
            }
            for row in table.rows
        ]
        listed.append(asdict(table) | {'rows': rows})
    return json.dumps(listed, indent=2, ensure_ascii=False)


def _text(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        lines = _cells(table, lambda row: row.model)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [
            '  '.join(
                [line[0].ljust(widths[0])]
                + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
            )
            for line in lines
        ]
        rule = '-' * len(aligned[0])
        head = f'Table {table.number}: {table.title}'
        parts.append('\n'.join([head, rule, aligned[0], rule, *aligned[1:], *_notes(table, '*')]))
    return '\n\n'.join(parts)


def _markdown(tables: Sequence[Table], base: str) -> str:
    parts = []
    for table in tables:
        lines = _cells(table, lambda row: f'[{row.model}]({_relative(row.config, base)})')
        rule = ['---'] + ['---:'] * (len(lines[0]) - 1)
        body = [f'| {" | ".join(line)} |' for line in (lines[0], rule, *lines[1:])]
        notes = _notes(table, r'\*')
        head = f'**Table {table.number}: {table.title}**'
        parts.append('\n'.join([head, '', *body, *([''] if notes else []), *notes]))
    return '\n\n'.join(parts)


def _relative(config: str, base: str) -> str:
    # Not os.path.relpath: the link is the same on every machine.
    path, start = PurePosixPath(config).parts, PurePosixPath(base).parts
    shared = 0
    while shared < min(len(path), len(start)) and path[shared] == start[shared]:
        shared += 1
    return '/'.join(['..'] * (len(start) - shared) + list(path[shared:]))


def _cells(table: Table, label: Callable[[Row], str]) -> list[list[str]]:
    """Return the header and the rows as strings."""
    columns = table.columns()
    with_ours = {name for row in table.rows for name in row.ours if name in row.paper}
    measured = {name for row in table.rows for name in row.differences()}
    header = ['Model']
    for name in columns:
        header += [name, *['ours'] * (name in with_ours), *['difference'] * (name in measured)]
    lines = [header]
    for row in table.rows:
        line = [label(row)]
        for name in columns:
            line.append(str(row.paper.get(name, _NONE)))
            if name in with_ours:
                line.append(_ours(row, name) + ('*' if row.deviates(name) else ''))
            if name in measured:
                difference = row.differences().get(name)
                line.append(_NONE if difference is None else f'{difference:+.2f}')
        lines.append(line)
    return lines


def _ours(row: Row, name: str) -> str:
    value = row.ours.get(name)
    if value is None or name not in row.paper:
        return _NONE
    if name == 'Parameters':
        return f'{value / 1e6:.2f}M'
    if name == 'FLOPs':
        return f'{value / 1e9:.2f}G' if value >= 1e9 else f'{value / 1e6:.1f}M'
    return f'{value:.2f}'


def _notes(table: Table, star: str) -> list[str]:
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
    return notes
