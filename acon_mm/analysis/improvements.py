"""Relative improvements over a baseline as bars, after Fig. 1 of the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from acon_mm.errors import UserError

from .figures import COLOURS, new_figure
from .paper_tables import SIZES, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    'swish': 'Swish',
    'aconb': 'ACON-B',
    'aconc': 'ACON-C',
    'metaacon': 'Meta-ACON',
    'se': 'SE',
}
"""By the ends of the models' names, the activations that are drawn, in this order."""

MAX_INCHES = 13
HATCHES = ('', '//', '..', 'xx', '--')


@dataclass
class Improvements:
    """How much better than a baseline the others are.

    Attributes:
        baseline: The title of the baseline.
        metric: What is compared.
        groups: By network or task and by title, the improvement for each seed, in percent of the
            baseline's value.
    """

    baseline: str
    metric: str
    groups: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def improvements_of_tables(tables: Sequence[Table]) -> Improvements:
    """Compare the models of tables of the paper with the ReLU model of the same network.

    The first metric of the tables counts: what runs here measured if there is such a figure, else
    the paper's.

    Raises:
        UserError: If the tables have different metrics, or no network with ReLU and another
            activation.
    """
    metrics = {next(name for name in table.columns() if name not in SIZES) for table in tables}
    if len(metrics) != 1:
        raise UserError(f'the tables have different metrics: {", ".join(sorted(metrics))}')
    (metric,) = metrics
    values: dict[str, dict[str, float]] = {}
    for row in (row for table in tables for row in table.rows if metric in row.paper):
        network, _, activation = row.model.rpartition('_')
        value = row.ours.get(metric, row.paper[metric])
        values.setdefault(network, {})[activation] = float(value)
    found = Improvements('ReLU', _quality_name(metric))
    for network, of_network in values.items():
        others = [name for name in NAMES if name in of_network]
        if 'relu' in of_network and others:
            base = _quality(metric, of_network['relu'])
            found.groups[network] = {
                NAMES[name]: [100 * (_quality(metric, of_network[name]) / base - 1)]
                for name in others
            }
    if not found.groups:
        raise UserError('the tables have no network with ReLU and another activation')
    return found


def improvements_of_grid(report: Mapping[str, Sequence[Mapping[str, Any]]]) -> Improvements:
    """Compare the rows of a transfer grid with its first row, in pairs by seed.

    Args:
        report: What ``tools/transfer/report.py --format json`` prints.

    Raises:
        UserError: If no row has a result on a seed of the first row.
    """
    first = next(iter(report.values()))
    found = Improvements(first[0]['title'], 'first metric of each task')
    for task, rows in report.items():
        metric = next(iter(rows[0]['metrics']))
        base = rows[0]['metrics'][metric]
        of_task = {
            row['title']: [
                100 * (_quality(metric, value) / _quality(metric, base[seed]) - 1)
                for seed, value in row['metrics'][metric].items()
                if seed in base
            ]
            for row in rows[1:]
        }
        of_task = {title: values for title, values in of_task.items() if values}
        if of_task:
            found.groups[f'{task}: {_quality_name(metric)}'] = of_task
    if not found.groups:
        raise UserError('the report has no row with a result beside one of its first row')
    return found


def draw_improvements(found: Improvements) -> 'Figure':
    """Draw a group of bars for each network or task.

    Returns:
        A figure. A bar is the mean over the seeds; of several seeds, a line reaches from the
        smallest to the largest.
    """
    present = dict.fromkeys(title for group in found.groups.values() for title in group)
    titles = [name for name in NAMES.values() if name in present]
    titles += [title for title in present if title not in titles]
    width = 0.8 / len(titles)
    inches = min(2.5 + 0.35 * len(titles) * len(found.groups), MAX_INCHES)
    with new_figure(inches, 4.5) as figure:
        axes = figure.subplots()
        for index, title in enumerate(titles):
            places: list[float] = []
            means: list[float] = []
            ranges: tuple[list[float], list[float]] = ([], [])
            for place, group in enumerate(found.groups.values()):
                if values := group.get(title):
                    mean = sum(values) / len(values)
                    # Side by side around the tick, without gaps where one is missing.
                    shift = list(group).index(title) - (len(group) - 1) / 2
                    places.append(place + width * shift)
                    means.append(mean)
                    ranges[0].append(mean - min(values))
                    ranges[1].append(max(values) - mean)
            bars = axes.bar(
                places,
                means,
                0.92 * width,
                yerr=ranges if any(ranges[1]) else None,
                capsize=4,
                color=COLOURS[index % len(COLOURS)],
                hatch=HATCHES[index % len(HATCHES)],
                edgecolor='white',
                label=title,
            )
            if inches < MAX_INCHES:
                axes.bar_label(bars, fmt='%+.1f', fontsize=10, padding=2)
        axes.axhline(0, color='0.2', linewidth=1)
        names = [name.replace('_', '\n').replace(': ', '\n') for name in found.groups]
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel(f'{found.metric}:\n% better than {found.baseline}')
        axes.grid(axis='x', visible=False)
        axes.margins(y=0.12)
        figure.legend(loc='outside upper center', ncols=min(len(titles), 5))
    return figure


def _quality(metric: str, value: float) -> float:
    """Turn an error into a value that is better the larger it is."""
    return 100 - value if metric.endswith('Error') else value


def _quality_name(metric: str) -> str:
    return metric.replace('Error', 'accuracy')
