"""Compare the rows of a transfer grid by what its finished tests measured.

Rows of one seed are a pair: the intervals are those of the paired t-test over the seeds.
"""

import argparse
import json
import re
import shlex
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import yaml
from grid import Grid
from scipy import stats
from snakemake.utils import update_config

from acon_mm.errors import UserError

NONE = '–'


def paired_difference(values: pd.Series, baseline: pd.Series) -> dict | None:
    """Compare two rows over the seeds that both have.

    Args:
        values: By seed.
        baseline: By seed; it is subtracted.

    Returns:
        The ``mean`` difference, ``low`` and ``high`` of its 95 % interval (None with a single
        pair) and the number of ``pairs``; None without a common seed.
    """
    both = pd.concat({'row': values, 'baseline': baseline}, axis=1).dropna()
    if both.empty:
        return None
    low = high = None
    if len(both) > 1:
        # Not ttest_rel's own interval, which is undefined where all differences are the same.
        difference = both.row - both.baseline
        error = stats.sem(difference) * stats.t.ppf(0.975, len(both) - 1)
        low, high = difference.mean() - error, difference.mean() + error
    return {
        'mean': (both.row - both.baseline).mean(),
        'low': low,
        'high': high,
        'pairs': len(both),
    }


def task_rows(grid: Grid, task: str) -> list[dict]:
    """Return, for each row of a grid, its metrics by seed and its differences to the baselines.

    The first of the task's metrics is compared.
    """
    metrics = grid.tasks[task]['metrics']
    tables = {metric: pd.DataFrame(index=grid.rows, columns=grid.seeds) for metric in metrics}
    for row in grid.rows:
        for seed in grid.seeds:
            result = grid.result('test', row, seed, task)
            for metric in metrics if result else ():
                tables[metric].loc[row, seed] = result['metrics'][metric]
    compared = tables[metrics[0]].astype(float)
    return [
        {
            'row': row,
            'title': grid.activations[row].get('title', row),
            'metrics': {
                metric: table.loc[row].dropna().astype(float).to_dict()
                for metric, table in tables.items()
            },
            'differences': {
                baseline: paired_difference(compared.loc[row], compared.loc[baseline])
                for baseline in grid.baselines
                if baseline != row
            },
        }
        for row in grid.rows
    ]


def format_report(grid: Grid, kind: str = 'text') -> str:
    """Write the tables of all tasks.

    Args:
        grid: The grid. What has not ended, or ended with other settings, is left out.
        kind: ``'text'`` or ``'markdown'``, which differ in the titles, or ``'json'``.

    Returns:
        The text, without a line break at its end.
    """
    rows = {task: task_rows(grid, task) for task in grid.tasks}
    if kind == 'json':
        return json.dumps(rows, indent=2, ensure_ascii=False)
    mark = '**' if kind == 'markdown' else ''
    parts = []
    for task, found in rows.items():
        parts += [f'{mark}{grid.tasks[task].get("title", task)}{mark}', _table(grid, found)]
    return '\n\n'.join([*parts, _footnote(grid)])


def _table(grid: Grid, rows: list[dict]) -> str:
    first, *others = rows[0]['metrics']
    lines = []
    for row in rows:
        values = row['metrics'][first]
        line = {first: row['title']}
        line |= {
            f'seed {seed}': f'{values[seed]:.2f}' if seed in values else NONE
            for seed in grid.seeds
        }
        line['mean ± sd'] = _spread(values)
        for baseline in grid.baselines:
            title = grid.activations[baseline].get('title', baseline)
            difference = row['differences'].get(baseline)
            line[f'− {title}'] = f'{difference["mean"]:+.2f}' if difference else NONE
            line[f'95 % interval, − {title}'] = _interval(difference)
        line |= {metric: _spread(row['metrics'][metric]) for metric in others}
        lines.append(line)
    table = pd.DataFrame(lines)
    align = ['left', *['right'] * (len(table.columns) - 1)]
    return table.to_markdown(index=False, disable_numparse=True, colalign=align)


def _spread(values: dict) -> str:
    series = pd.Series(values, dtype=float)
    if series.empty:
        return NONE
    return f'{series.mean():.2f}' + (f' ± {series.std():.2f}' if len(series) > 1 else '')


def _interval(difference: dict | None) -> str:
    """Write an interval, with a star where it does not hold 0."""
    if not difference or difference['low'] is None:
        return NONE
    star = '' if difference['low'] <= 0 <= difference['high'] else '*'
    return f'{difference["low"]:+.2f} to {difference["high"]:+.2f}{star}'


def _footnote(grid: Grid) -> str:
    steps = [
        grid.result(kind, row, seed, task)
        for kind in ('train', 'test')
        for row in grid.rows
        for seed in grid.seeds
        for task in grid.tasks
    ]
    done = [step for step in steps if step]
    commits = Counter(step['commit'] or 'unknown' for step in done).most_common()
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
    at = ', '.join(f'{name} ({count} step{"s" * (count > 1)})' for name, count in commits)
    return f'{text}; they took {minutes:.0f} min{note}. Commits: {at}.'


def write_between_marks(path: Path, mark: str, text: str) -> None:
    """Replace what stands between ``<!-- MARK -->`` and ``<!-- end of MARK -->`` in a file.

    Raises:
        UserError: If the file has no such lines.
    """
    name = re.escape(mark)
    new, count = re.subn(
        f'(<!-- {name} -->\n).*?(<!-- end of {name} -->)',
        lambda match: f'{match[1]}\n{text}\n\n{match[2]}',
        path.read_text(encoding='utf-8'),
        flags=re.DOTALL,
    )
    if not count:
        raise UserError(f"{path} lacks the lines '<!-- {mark} -->' and '<!-- end of {mark} -->'")
    path.write_text(new, encoding='utf-8')


def main() -> None:
    """Print the tables, or write them to a Markdown file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', type=Path, help="the grid's, as for --configfile")
    parser.add_argument(
        '--config', nargs='+', default=[], metavar='KEY=VALUE', help="as snakemake's"
    )
    parser.add_argument('--format', choices=('text', 'markdown', 'json'), default='text')
    parser.add_argument('--out', type=Path, metavar='FILE', help='Markdown file to write to')
    parser.add_argument('--mark', default='transfer', help='between <!-- MARK --> and its end')
    args = parser.parse_args()
    config: dict = {}
    for path in args.configs:
        update_config(config, yaml.safe_load(path.read_text(encoding='utf-8')))
    for key, _, value in (pair.partition('=') for pair in args.config):
        update_config(config, {key: yaml.safe_load(value)})
    try:
        grid = Grid(config)
        if args.out:
            command = shlex.join(['python', 'tools/transfer/report.py', *sys.argv[1:]])
            text = f'- Command: `{command}`\n\n{format_report(grid, "markdown")}'
            write_between_marks(args.out, args.mark, text)
        else:
            print(format_report(grid, args.format))
    except (OSError, UserError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
