"""Measure what ACON costs in the training step and the inference of whole networks.

In every round each activation runs once in its own copy of the network: forward pass, loss,
backward pass and a step of SGD, and an inference of one image. With --blocks it lists instead what
a block of the networks keeps for its backward pass, tensor by tensor.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

from acon_mm.analysis.benchmark_blocks import measure_block
from acon_mm.analysis.benchmark_cli import (
    add_benchmark_arguments,
    make_plan,
    positive,
    run_benchmark,
)
from acon_mm.analysis.benchmark_networks import NETWORKS, Network
from acon_mm.analysis.benchmark_report import folded
from acon_mm.analysis.benchmark_rows import NETWORK_ROWS
from acon_mm.analysis.benchmark_tables import block_summary, block_table, network_table
from acon_mm.analysis.benchmark_train_step import measure_network
from acon_mm.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_benchmark_arguments(parser, rounds=15, rows=NETWORK_ROWS)
    parser.add_argument(
        '--networks',
        nargs='+',
        choices=tuple(NETWORKS),
        default=tuple(NETWORKS),
        metavar='NAME',
        help=f'out of {", ".join(NETWORKS)} (default: all)',
    )
    parser.add_argument('--batch-size', type=positive, metavar='N', help='images of a step')
    parser.add_argument('--image-size', type=positive, metavar='PIXELS', help='side of an image')
    parser.add_argument('--blocks', action='store_true', help='list what blocks keep instead')
    return parser


def networks(args: argparse.Namespace) -> Iterator[Network]:
    """Yield the networks with the sizes that the command line asks for."""
    sizes = {'batch_size': args.batch_size, 'image_size': args.image_size}
    given = {name: size for name, size in sizes.items() if size is not None}
    for name in args.networks:
        yield replace(NETWORKS[name], **given)


def measure(args: argparse.Namespace, say: Callable[[str], None]) -> list[str]:
    """Measure all networks and return their tables."""
    tables = []
    for network in networks(args):
        result = measure_network(network, args.rows, make_plan(args), args.device)
        tables.append(network_table(result))
        say(tables[-1])
    return tables


def list_blocks(args: argparse.Namespace, say: Callable[[str], None]) -> list[str]:
    """Return what the blocks keep in all, and each tensor of each."""
    results = [
        measure_block(network, row, args.device)
        for network in networks(args)
        if network.block
        for row in args.rows
    ]
    if not results:
        raise UserError(
            f'networks names {", ".join(args.networks)}, of which no block is listed; use '
            f'{" or ".join(name for name in NETWORKS if NETWORKS[name].block)}'
        )
    summary, tables = block_summary(results), [block_table(result) for result in results]
    for part in (*tables, summary):
        say(part)
    return [summary, folded('Every tensor', tables)]


def main() -> None:
    """Parse the arguments, measure and print."""
    args = build_parser().parse_args()
    try:
        if args.blocks:
            run_benchmark(args, 'benchmark_blocks', list_blocks)
        else:
            run_benchmark(args, 'benchmark_train_step', measure)
    except UserError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
