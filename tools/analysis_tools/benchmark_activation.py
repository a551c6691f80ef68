"""Measure what ACON costs on feature maps, against ReLU, SiLU and the published formula.

In every round each activation runs once: forward under no_grad (inference), forward and backward.
The tables hold medians with the 20th and the 80th percentile, and ratios to SiLU of the same run.
With all of its defaults it takes about ten minutes on two cores.
"""

import argparse
import sys
from collections.abc import Callable

from acon_mm.analysis.benchmark_activation import (
    DTYPES,
    LAYOUTS,
    SHAPES,
    all_cases,
    measure_case,
)
from acon_mm.analysis.benchmark_cli import (
    add_benchmark_arguments,
    make_plan,
    positive,
    run_benchmark,
)
from acon_mm.analysis.benchmark_report import folded
from acon_mm.analysis.benchmark_rows import ROWS
from acon_mm.analysis.benchmark_tables import case_table, summary_tables
from acon_mm.errors import UserError


def shape(text: str) -> tuple[int, ...]:
    """Read ``4x24x112x112`` from the command line."""
    sizes = tuple(positive(part) for part in text.split('x'))
    if len(sizes) != 4:
        raise ValueError
    return sizes


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_benchmark_arguments(parser, rounds=60, rows=ROWS, seconds=12)
    parser.add_argument(
        '--shapes',
        nargs='+',
        type=shape,
        default=SHAPES,
        metavar='NxCxHxW',
        help=f'feature maps (default: {" ".join("x".join(map(str, sizes)) for sizes in SHAPES)})',
    )
    for name, values in (('--dtypes', DTYPES), ('--layouts', LAYOUTS)):
        parser.add_argument(name, nargs='+', choices=tuple(values), default=tuple(values))
    return parser


def measure(args: argparse.Namespace, say: Callable[[str], None]) -> list[str]:
    """Measure all feature maps; return the summary and their tables."""
    results, tables = [], []
    for case in all_cases(args.shapes, args.dtypes, args.layouts):
        results.append(measure_case(case, args.rows, make_plan(args), args.device))
        tables.append(case_table(results[-1]))
        say(tables[-1])
    summary = summary_tables(results)
    say(summary)
    return [summary, folded('Every feature map', tables)]


def main() -> None:
    """Parse the arguments, measure and print."""
    args = build_parser().parse_args()
    try:
        run_benchmark(args, 'benchmark_activation', measure)
    except UserError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
