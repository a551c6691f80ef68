"""Measure the models, and compare them with what the paper reports."""

from .complexity import Complexity, count_complexity, count_config
from .curves import draw_curves
from .paper_tables import Row, Table, paper_table, paper_tables
from .table_format import fill_tables, format_tables

__all__ = [
    'Complexity',
    'Row',
    'Table',
    'count_complexity',
    'count_config',
    'draw_curves',
    'fill_tables',
    'format_tables',
    'paper_table',
    'paper_tables',
]
