"""The tables of *Activate or Not* (https://arxiv.org/abs/2009.04759), with our figures beside.

What the paper reports, what we count and the notes on differences are all read from the metafiles
beside the configs; what runs measured comes from their work dirs.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acon_mm._mim import model_entries
from acon_mm.errors import UserError

from .runs import measured_metrics

TITLES = {
    2: 'ReLU against Meta-ACON on ImageNet',
    3: 'ReLU, ACON-A (Swish), ACON-B and ACON-C on ImageNet',
    4: 'Other activations in ShuffleNetV2 0.5× on ImageNet',
    5: 'Manners of the switching factor in ShuffleNetV2 0.5× on ImageNet',
    6: 'Squeeze-and-excitation against Meta-ACON on ImageNet',
    7: 'SENet-154 on ImageNet',
    8: 'Lightweight networks on ImageNet',
    9: 'RetinaNet with ResNet-50 on COCO',
    10: 'PSPNet with ResNet-50 on Cityscapes',
}

NOTES = {
    10: 'Parameters and FLOPs are those of the ImageNet classifiers that the backbones come from, '
    'for one image of 224×224 pixels: the columns of the paper repeat those of Tables 2 and 3.',
}

# What counts as agreement. The paper rounds parameters to 0.1 M.
PARAMS_ABSOLUTE, PARAMS_RELATIVE, FLOPS_RELATIVE = 1e5, 0.02, 0.03

SIZES = ('Parameters', 'FLOPs')
_UNITS = {'M': 1e6, 'G': 1e9}


@dataclass
class Row:
    """A row of a table.

    Attributes:
        model: The name of the model.
        config: The path of its config below the root of the project.
        paper: What the paper reports, by name: ``Parameters`` and ``FLOPs`` as printed
            (``'1.4M'``), metrics in percent.
        ours: What we count (``Parameters`` and ``FLOPs``, as integers) and what runs measured.
        note: Why the two differ.
    """

    model: str
    config: str
    paper: dict[str, Any]
    ours: dict[str, float]
    note: str = ''

    def deviates(self, name: str) -> bool:
        """Whether our count is further from the paper's figure than its rounding explains."""
        if name not in SIZES or name not in self.paper or name not in self.ours:
            return False
        paper = parse_quantity(self.paper[name])
        bound = FLOPS_RELATIVE * paper
        if name == 'Parameters':
            bound = max(PARAMS_ABSOLUTE, PARAMS_RELATIVE * paper)
        return abs(self.ours[name] - paper) > bound

    def differences(self) -> dict[str, float]:
        """Return by how much what runs measured is above the paper's metrics, by name."""
        metrics = (name for name in self.ours if name in self.paper and name not in SIZES)
        return {name: round(self.ours[name] - self.paper[name], 2) for name in metrics}


@dataclass
class Table:
    """A table of the paper.

    Attributes:
        number: Its number.
        title: What it compares.
        rows: One row per model.
        note: A remark on its columns.
    """

    number: int
    title: str
    rows: list[Row] = field(default_factory=list)
    note: str = ''

    def columns(self) -> list[str]:
        """Return the names of all figures that the paper reports, sizes first."""
        names = dict.fromkeys(name for row in self.rows for name in row.paper)
        return [*(n for n in SIZES if n in names), *(n for n in names if n not in SIZES)]


def paper_tables(
    numbers: Sequence[int] | None = None,
    work_dirs: Sequence[str | os.PathLike] = (),
    log: Callable[[str], None] = lambda line: None,
) -> list[Table]:
    """Return tables of the paper with our figures beside.

    Args:
        numbers: The numbers of the tables; by default all of which this project has models.
        work_dirs: Folders of runs, see :func:`measured_metrics`.
        log: Called with a line for each run that is left out.

    Returns:
        The tables, with a row for each model of this project.

    Raises:
        UserError: If the project has no models of a table, or a work dir is not a folder.
    """
    for folder in work_dirs:
        if not Path(folder).is_dir():
            raise UserError(f'work_dirs names {str(folder)!r}, which is not a folder')
    tables = {n: Table(n, title, note=NOTES.get(n, '')) for n, title in TITLES.items()}
    entries = model_entries()
    for name, entry in entries.items():
        metadata = entry.get('Metadata', {})
        # Of a segmentor the paper counts the classifier that its backbone comes from.
        sized = entries[metadata['Backbone']]['Metadata'] if 'Backbone' in metadata else metadata
        counted = {size: sized[size] for size in SIZES if size in sized}
        measured = measured_metrics(name, work_dirs, log)
        for number, paper in _reported(entry).items():
            ours = counted | {metric: measured[metric] for metric in paper if metric in measured}
            row = Row(name, entry['Config'], paper, ours, metadata.get('Note', ''))
            tables[number].rows.append(row)
    # Table 8 compares networks of equal cost.
    tables[8].rows.sort(key=lambda row: parse_quantity(row.paper['FLOPs']))
    tables = {number: table for number, table in tables.items() if table.rows}
    for number in numbers or ():
        if number not in tables:
            raise UserError(
                f'tables names {number}, of which there are no models here; the tables are '
                f'{", ".join(map(str, tables))}'
            )
    return [tables[number] for number in numbers or tables]


def _reported(entry: dict) -> dict[int, dict]:
    """Return what the paper reports of a model, by the number of the table.

    A model of one table names that table as the source of its results. A model of several tables,
    with different figures, lists them.
    """
    metadata = entry.get('Metadata', {})
    if 'Reported' in metadata:
        return {int(name.split()[-1]): figures for name, figures in metadata['Reported'].items()}
    source = re.search(r'Table (\d+) of the paper', metadata.get('Source of Results', ''))
    return {int(source[1]): entry['Results'][0]['Metrics']} if source else {}


def parse_quantity(text: str) -> float:
    """Return the value of a quantity of the paper.

    Args:
        text: A number and its unit, such as ``'1.4M'`` or ``'3.9G'``.
    """
    return float(text[:-1]) * _UNITS[text[-1]]
