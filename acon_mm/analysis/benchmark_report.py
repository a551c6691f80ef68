"""What the reports of all benchmarks share: their head, Markdown tables, and where they go."""

import os
import platform
import re
import shlex
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from acon_mm import ops
from acon_mm._stack import STACK

from .benchmark_timing import Spread

NONE = '–'


def describe_run(device: str, command: Sequence[str]) -> str:
    """Say on what machine, with what versions and by what command something was measured.

    Args:
        device: ``'cpu'`` or ``'cuda'``.
        command: The words of the command, of which the first is the path of the script.

    Returns:
        A Markdown list.
    """
    # The part of the path that is the same in every checkout.
    script = Path(*Path(command[0]).parts[-3:]).as_posix()
    versions = [f'{library.name} {_version(library.name)}' for library in STACK]
    lines = [
        f'Command: `{shlex.join(["python", script, *command[1:]])}`',
        f'Machine: {describe_machine(device)}',
        f'Versions: Python {platform.python_version()}, {", ".join(versions)}',
        f'Operator: {"; ".join(ops.backend_report().splitlines())}',
    ]
    return '\n'.join(f'- {line}' for line in lines)


def describe_machine(device: str) -> str:
    """Name the processor, how many threads torch uses of it, and the GPU if it is measured."""
    cpu = (
        f'{_processor()} with {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, '
        f'of which torch uses {torch.get_num_threads()}'
    )
    if torch.device(device).type == 'cpu':
        return cpu
    return f'{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, beside {cpu}'


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table whose columns are also aligned for a reader of the plain text.

    Args:
        header: The names of the columns.
        rows: The cells; those of the first column are aligned to the left, others to the right.

    Returns:
        The table, without a line break at its end.
    """
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
    lines = []
    for cells in (header, rule, *rows):
        first, *rest = zip(cells, widths, strict=True)
        aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        lines.append(f'| {" | ".join(aligned)} |')
    return '\n'.join(lines)


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


def _processor() -> str:
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        return platform.machine()
    found = re.search(r'^model name\s*:\s*(.+)$', text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return 'not installed'
