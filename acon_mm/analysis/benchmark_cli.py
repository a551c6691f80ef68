"""What the command lines of the benchmarks have in common."""

import argparse
import math
import sys
from collections.abc import Callable, Iterable

import torch

from acon_mm.errors import UserError

from .benchmark_memory import keep_freed_memory
from .benchmark_timing import Plan
from .marks import check_marks, write_between_marks
from .provenance import describe_run

MIN_ROUNDS = 15

Measure = Callable[[argparse.Namespace, Callable[[str], None]], list[str]]


def positive(text: str) -> int:
    """Read a positive integer from the command line."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def add_benchmark_arguments(
    parser: argparse.ArgumentParser, rounds: int, rows: Iterable[str], seconds: float = math.inf
) -> None:
    """Add the flags that all benchmarks share.

    Args:
        parser: The parser.
        rounds: The largest number of rounds by default.
        rows: The names of all rows.
        seconds: The time of one table by default.
    """
    names = tuple(rows)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument(
        '--threads', type=positive, metavar='N', help="CPU threads (default: torch's)"
    )
    parser.add_argument(
        '--rows',
        nargs='+',
        choices=names,
        default=names,
        metavar='ROW',
        help=f'activations, out of {", ".join(names)} (default: all)',
    )
    parser.add_argument(
        '--rounds',
        type=positive,
        default=rounds,
        metavar='N',
        help=f'largest number of rounds of each table (default: {rounds})',
    )
    parser.add_argument(
        '--seconds',
        type=float,
        default=seconds,
        metavar='S',
        help=f'time after which a table gets no more than {MIN_ROUNDS} rounds '
        f'(default: {seconds:g})',
    )
    parser.add_argument(
        '--malloc',
        choices=('keep', 'system'),
        default='keep',
        help='whether memory that was freed is kept for the next tensor, or given back to the '
        'system as by default (default: keep)',
    )
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='Markdown file to write the tables to, between the lines with their name, such as '
        'docs/performance.md',
    )


def make_plan(args: argparse.Namespace) -> Plan:
    """Return how many rounds the command line asks for."""
    return Plan(args.rounds, min(args.rounds, MIN_ROUNDS), args.seconds)


def run_benchmark(args: argparse.Namespace, name: str, measure: Measure) -> None:
    """Measure, print what is measured as it comes, and write the report to ``--out``.

    Args:
        args: The parsed command line.
        name: The name of the report: it stands between the lines ``<!-- NAME DEVICE -->`` and
            ``<!-- end of NAME DEVICE -->``.
        measure: Takes the command line and what prints a part; returns the parts of the report.

    Raises:
        UserError: If there is no such device or ``--out`` has no such lines.
    """
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError("device is 'cuda', but torch finds no such GPU; measure on 'cpu'")
    mark = f'{name} {args.device}'
    if args.out:
        check_marks(args.out, mark)  # before the minutes that measuring takes
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.malloc == 'keep' and not keep_freed_memory():
        raise UserError("malloc is 'keep', but this C library has no such choice; take 'system'")
    head = describe_run(args.device, sys.argv)
    print(head, flush=True)
    parts = measure(args, lambda part: print(f'\n{part}', flush=True))
    if args.out:
        write_between_marks(args.out, mark, '\n\n'.join([head, *parts]))
