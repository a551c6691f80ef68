"""Compare the rows of a transfer grid by what its finished tests measured, in pairs by seed."""

import argparse
import json
import shlex
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import yaml
from scipy import stats
from snakemake.utils import update_config

from acon_mm.analysis.markdown import NONE, markdown_table, replace_between
from acon_mm.errors import UserError, report_user_errors
from grid import Grid


def paired_difference(values: pd.Series, baseline: pd.Series) -> dict | None:
    """Compare two rows over the seeds that both have, by the paired t-test.

    Returns:
        The ``mean`` difference, the ends ``low`` and ``high`` of its 95 % interval, which a single
        pair does not have, and the number of ``pairs``; None without a common seed.
    """
    difference = (values - baseline).dropna()
    if difference.empty:
        return None
    found = {'mean': difference.mean(), 'low': None, 'high': None, 'pairs': len(difference)}
    if len(difference) > 1:
        # ttest_rel's own interval is not defined where all differences are the same.
        half = stats.sem(difference) * stats.t.ppf(0.975, len(difference) - 1)
        found |= {'low': found['mean'] - half, 'high': found['mean'] + half}
    return found


def task_rows(grid: Grid, task: str) -> list[dict]:
    """Return the metrics of each row by seed, and how the first differs from the baselines'."""
    names = grid.tasks[task]['metrics']
    metrics = {
        row: pd.DataFrame(
            {
                seed: result['metrics']
                for seed in grid.seeds
                if (result := grid.result('test', row, seed, task))
            },
            index=names,
            dtype=float,
        )
        for row in grid.rows
    }
    first = {row: found.loc[names[0]] for row, found in metrics.items()}
    return [
        {
            'row': row,
            'title': _title(grid, row),
            'metrics': {name: found.loc[name].to_dict() for name in names},
            'differences': {
                other: paired_difference(first[row], first[other])
                for other in grid.baselines
                if other != row
            },
        }
        for row, found in metrics.items()
    ]


def format_report(grid: Grid, kind: str = 'text') -> str:
    """Write the tables of all tasks, as text, Markdown or JSON.

    What has not ended, or ended with other settings than those of the grid, is left out.
    """
    rows = {task: task_rows(grid, task) for task in grid.tasks}
    if kind == 'json':
        return json.dumps(rows, indent=2, ensure_ascii=False)
    mark = '**' if kind == 'markdown' else ''
    parts = []
    for task, found in rows.items():
        parts += [f'{mark}{grid.tasks[task].get("title", task)}{mark}', _table(grid, found)]
    return '\n\n'.join([*parts, _footnote(grid)])


def _title(grid: Grid, row: str) -> str:
    return grid.activations[row].get('title', row)


def _table(grid: Grid, rows: list[dict]) -> str:
    first, *others = rows[0]['metrics']
    header = [first, *(f'seed {seed}' for seed in grid.seeds), 'mean ± sd']
    for baseline in grid.baselines:
        header += [f'− {_title(grid, baseline)}', '95 % interval']
    lines = []
    for row in rows:
        values = row['metrics'][first]
        line = [row['title'], *(_number(values.get(seed)) for seed in grid.seeds), _spread(values)]
        for baseline in grid.baselines:
            line += _compared(row['differences'].get(baseline))
        lines.append([*line, *(_spread(row['metrics'][name]) for name in others)])
    return markdown_table([*header, *others], lines)


def _number(value: float | None) -> str:
    return NONE if value is None else f'{value:.2f}'


def _spread(values: dict) -> str:
    series = pd.Series(values, dtype=float)
    if series.empty:
        return NONE
    return f'{series.mean():.2f}' + (f' ± {series.std():.2f}' if len(series) > 1 else '')


def _compared(found: dict | None) -> list[str]:
    """Return a difference and its interval, with a star where that does not hold 0."""
    if not found:
        return [NONE, NONE]
    mean, low, high = f'{found["mean"]:+.2f}', found['low'], found['high']
    if low is None:
        return [mean, NONE]
    return [mean, f'{low:+.2f} to {high:+.2f}{"" if low <= 0 <= high else "*"}']


def _footnote(grid: Grid) -> str:
    steps = [
        grid.result(kind, row, seed, task)
        for kind in ('train', 'test')
        for row in grid.rows
        for seed in grid.seeds
        for task in grid.tasks
    ]
    done = [step for step in steps if step]
    text = (
        'All figures are percentages. Differences are those of the same seeds, with the interval '
        'of the paired t-test; a star marks an interval without 0. '
        f'{len(done)} of {len(steps)} steps are finished'
    )
    if not done:
        return f'{text}.'
    minutes = sum(step['seconds'] for step in done) / 60
    resumed = sum(step['resumed'] for step in done)
    note = f', without what {resumed} of them took before they were resumed' if resumed else ''
    commits = Counter(step['commit'] or 'unknown' for step in done).most_common()
    at = ', '.join(f'{name} ({count} step{"s" * (count > 1)})' for name, count in commits)
    return f'{text}; they took {minutes:.0f} min{note}. Commits: {at}.'


def main() -> None:
    """Print the tables, or write them to a Markdown file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', type=Path, help="the grid's, as for --configfile")
    parser.add_argument(
        '--config', nargs='+', default=[], metavar='KEY=VALUE', help="as snakemake's"
    )
    parser.add_argument('--format', choices=('text', 'markdown', 'json'), default='text')
    parser.add_argument('--out', type=Path, metavar='FILE', help='Markdown file to write to')
    parser.add_argument('--mark', default='transfer', help='between <!-- MARK --> and its end')
    args = parser.parse_args()
    config: dict = {}
    with report_user_errors():
        for path in args.configs:
            if not path.is_file():
                raise UserError(f'config {str(path)!r} is not a file')
            update_config(config, yaml.safe_load(path.read_text(encoding='utf-8')))
        for key, _, value in (pair.partition('=') for pair in args.config):
            update_config(config, {key: yaml.safe_load(value)})
        grid = Grid(config)
        if args.out and not args.out.is_file():
            raise UserError(f'--out names {str(args.out)!r}, which is not a file')
        if not args.out:
            print(format_report(grid, args.format))
            return
        command = shlex.join(['python', 'tools/transfer/report.py', *sys.argv[1:]])
        text = f'- Command: `{command}`\n\n{format_report(grid, "markdown")}'
        old = args.out.read_text(encoding='utf-8')
        args.out.write_text(replace_between(old, args.mark, text), encoding='utf-8')


if __name__ == '__main__':
    main()
