"""The command line that the benchmarks share, and how they write figures."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence

import torch

from acon_mm.analysis.markdown import NONE
from acon_mm.analysis.marks import check_marks, write_between_marks
from acon_mm.analysis.provenance import describe_run
from acon_mm.errors import UserError
from measuring import MIN_ROUNDS, Times, keep_freed_memory, ratio


def positive(text: str) -> int:
    """Read a positive integer from the command line."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def build_parser(
    description: str, activations: Sequence[str], rounds: int, seconds: float = math.inf
) -> argparse.ArgumentParser:
    """Return a parser with the flags that the benchmarks share, and their defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument(
        '--activations',
        nargs='+',
        choices=activations,
        default=activations,
        metavar='NAME',
        help=f'out of {", ".join(activations)} (default: all)',
    )
    words = f'largest number of rounds per table (default: {rounds})'
    parser.add_argument('--rounds', type=positive, default=rounds, metavar='N', help=words)
    words = f'no round after the {MIN_ROUNDS}th starts after these seconds (default: {seconds:g})'
    parser.add_argument('--seconds', type=float, default=seconds, metavar='S', help=words)
    parser.add_argument('--out', metavar='FILE', help='Markdown file with marks for the tables')
    return parser


def run_benchmark(
    args: argparse.Namespace, name: str, measure: Callable[[argparse.Namespace], str]
) -> None:
    """Measure, and write the report to ``--out``; exit with a sentence where that is impossible.

    Args:
        args: The parsed command line.
        name: The report goes between the lines ``<!-- NAME DEVICE -->`` and
            ``<!-- end of NAME DEVICE -->``.
        measure: Prints the figures as they come and returns the report.
    """
    mark = f'{name} {args.device}'
    try:
        if args.device == 'cuda' and not torch.cuda.is_available():
            raise UserError("device is 'cuda', but torch finds no such GPU; measure on 'cpu'")
        if args.out:
            check_marks(args.out, mark)  # before the minutes that measuring takes
        keep_freed_memory()
        head = describe_run(args.device, sys.argv)
        print(head, flush=True)
        report = measure(args)
        if args.out:
            write_between_marks(args.out, mark, f'{head}\n\n{report}')
    except UserError as error:
        sys.exit(f'error: {error}')


def show(part: str) -> str:
    """Print a part of a report and return it."""
    print(f'\n{part}', flush=True)
    return part


def significant(value: float) -> str:
    """Write a number that is not negative with three significant digits, without an exponent."""
    for bound, digits in ((100, 0), (10, 1), (1, 2), (0.1, 3)):
        if value >= bound:
            return f'{value:.{digits}f}'
    return f'{value:.4f}'


def timing(times: Times, name: str, reference: str, phase: str) -> str:
    """Write the milliseconds of a phase: median, 20th and 80th percentile, and the ratio."""
    spread = times[name][phase]
    low, median, high = (significant(1e3 * seconds) for seconds in spread[:3])
    return f'{median} ({low}–{high}) {multiple(ratio(times, name, reference, phase))}'


def count_rounds(times: Times) -> int:
    """Return how many rounds were timed."""
    return max((s.count for phases in times.values() for s in phases.values()), default=0)


def multiple(factor: float | None) -> str:
    """Write a ratio; None if one of its two numbers was not measured."""
    return NONE if factor is None else f'{factor:.2f}×'


def mebibytes(nbytes: int) -> str:
    """Write bytes in units of 2²⁰."""
    return f'{nbytes / 2**20:.1f}'


def dimensions(shape: Sequence[int]) -> str:
    """Write a shape."""
    return '×'.join(map(str, shape))
