"""Measure the models, and compare them with what the paper reports."""

from .complexity import Complexity, count_complexity, count_config
from .curves import draw_curves
from .paper_tables import Row, Table, paper_table, paper_tables
from .run_plan import Cluster, Estimate, estimate_run
from .table_format import fill_tables, format_tables
from .training_step import Exchange, StepCounts, count_step

__all__ = [
    'Cluster',
    'Complexity',
    'Estimate',
    'Exchange',
    'Row',
    'StepCounts',
    'Table',
    'count_complexity',
    'count_config',
    'count_step',
    'draw_curves',
    'estimate_run',
    'fill_tables',
    'format_tables',
    'paper_table',
    'paper_tables',
]
