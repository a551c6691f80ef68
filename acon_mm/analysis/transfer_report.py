"""The tables of a grid of transfer chains: a small Table 9 and a small Table 10."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from acon_mm.errors import UserError

from .markdown import NONE, markdown_table
from .transfer_grid import duration
from .transfer_plan import CLASSIFICATION, DETECTION, METRICS, SEGMENTATION, Chain
from .transfer_statistics import Difference, mean_and_deviation, paired_difference
from .transfer_steps import step_result

TITLES = {
    CLASSIFICATION: 'Pretraining: the classifier',
    DETECTION: 'Table 9 in small: the detector',
    SEGMENTATION: 'Table 10 in small: the segmentor',
}


@dataclass
class TransferRow:
    """What a variant reached in a task.

    Attributes:
        variant: The name of the variant.
        title: How the table calls it.
        metrics: In percent, by metric and seed.
        differences: The paired differences of the first metric to the baselines, by their
            variants; None for the row itself and without a common seed.
    """

    variant: str
    title: str
    metrics: dict[str, dict[int, float]]
    differences: dict[str, Difference | None] = field(default_factory=dict)


def transfer_rows(
    task: str, chains: Sequence[Chain], baselines: Sequence[str] = ()
) -> list[TransferRow]:
    """Collect what the finished tests of a task measured.

    Args:
        task: One of the tasks.
        chains: The chains, whether they are finished or not.
        baselines: The variants that others are compared with. Defaults to the first.

    Returns:
        A row a variant, in the order of the chains.

    Raises:
        UserError: If no chain has one of the variants ``baselines``.
    """
    names = list(dict.fromkeys(chain.variant.name for chain in chains))
    baselines = list(dict.fromkeys(baselines)) or names[:1]
    for baseline in baselines:
        if baseline not in names:
            raise UserError(
                f'baseline {baseline!r} is none of the rows; use some of {", ".join(names)}'
            )
    metrics = METRICS[task]
    rows = {}
    for chain in chains:
        variant = chain.variant
        empty = TransferRow(variant.name, variant.title, {metric: {} for metric in metrics})
        row = rows.setdefault(variant.name, empty)
        (test,) = [step for step in chain.steps if step.task == task and step.is_test]
        measured = (step_result(test) or {}).get('metrics', {})
        for metric in metrics:
            if metric in measured:
                row.metrics[metric][chain.seed] = measured[metric]
    for baseline in baselines:
        reference = rows[baseline].metrics[metrics[0]]
        for name, row in rows.items():
            own = row.metrics[metrics[0]]
            row.differences[baseline] = (
                None if name == baseline else paired_difference(own, reference)
            )
    return list(rows.values())


def format_report(
    chains: Sequence[Chain], baselines: Sequence[str] = (), kind: str = 'text'
) -> str:
    """Write the tables of all tasks.

    Args:
        chains: The chains, whether they are finished or not.
        baselines: The variants that others are compared with. Defaults to the first.
        kind: ``'text'`` or ``'markdown'``, which differ in the titles, or ``'json'``.

    Returns:
        The text, without a line break at its end.

    Raises:
        UserError: If one of ``baselines`` or ``kind`` is unknown.
    """
    if kind not in ('text', 'markdown', 'json'):
        raise UserError(f'kind={kind!r} is unknown; use text, markdown or json')
    tables = {task: transfer_rows(task, chains, baselines) for task in TITLES}
    if kind == 'json':
        rows = {task: [asdict(row) for row in found] for task, found in tables.items()}
        return json.dumps(rows, indent=2, ensure_ascii=False)
    mark = '**' if kind == 'markdown' else ''
    parts = [f'{mark}{TITLES[task]}{mark}\n\n{_table(found)}' for task, found in tables.items()]
    return '\n\n'.join([*parts, _footnote(chains)])


def _table(rows: Sequence[TransferRow]) -> str:
    first, *others = rows[0].metrics
    seeds = sorted({seed for row in rows for seed in row.metrics[first]})
    named = {row.variant: row.title for row in rows}
    header = [first, *(f'seed {seed}' for seed in seeds), 'mean ± sd']
    for baseline in rows[0].differences:
        header += [f'− {named[baseline]}', '95 % interval']
    header += others
    lines = []
    for row in rows:
        values = row.metrics[first]
        lines.append(
            [
                row.title,
                *(_number(values.get(seed)) for seed in seeds),
                _spread(values.values()),
                *(cell for found in row.differences.values() for cell in _compared(found)),
                *(_spread(row.metrics[metric].values()) for metric in others),
            ]
        )
    return markdown_table(header, lines)


def _number(value: float | None) -> str:
    return NONE if value is None else f'{value:.2f}'


def _spread(values: Sequence[float]) -> str:
    if not values:
        return NONE
    mean, deviation = mean_and_deviation(list(values))
    return f'{mean:.2f}' if deviation is None else f'{mean:.2f} ± {deviation:.2f}'


def _compared(difference: Difference | None) -> list[str]:
    """Return the difference and its interval, a star where the interval does not hold 0."""
    if difference is None:
        return [NONE, NONE]
    mean = f'{difference.mean:+.2f}'
    if difference.half is None:
        return [mean, NONE]
    star = '*' if difference.low > 0 or difference.high < 0 else ''
    return [mean, f'{difference.low:+.2f} to {difference.high:+.2f}{star}']


def _footnote(chains: Sequence[Chain]) -> str:
    found = [result for chain in chains for step in chain.steps if (result := step_result(step))]
    total = sum(len(chain.steps) for chain in chains)
    commits = Counter(result['commit'] or 'unknown' for result in found).most_common()
    text = (
        'All figures are percentages. Differences are those of the same seeds, with the interval '
        'of the t distribution over them; a star marks an interval without 0. '
        f'{len(found)} of {total} steps are finished'
    )
    if not found:
        return f'{text}.'
    seconds = sum(result['seconds'] for result in found)
    resumed = sum(result['resumed'] for result in found)
    note = f', without what {resumed} of them took before a resume' if resumed else ''
    at = ', '.join(f'{commit} ({count} step{"s" * (count > 1)})' for commit, count in commits)
    return f'{text}; they took {duration(seconds)}{note}. Commits: {at}.'
