"""Say what a training of a config needs on many GPUs, from one training step on the CPU.

Memory, operations and exchanges are counted in that step. Times are estimated from them with the
assumptions that are printed, none of which is measured: set them to those of your machines.
"""

import argparse
import json
import math
from dataclasses import asdict, fields

from acon_mm.analysis.run_plan import Cluster, Estimate, estimate_run
from acon_mm.analysis.training_step import StepCounts, count_step
from acon_mm.apis.cli import read_options
from acon_mm.errors import report_user_errors

ASSUMPTIONS = {
    'gpus_per_node': (int, 'GPUs of one machine'),
    'node_bandwidth': (float, 'GB/s from one GPU to another one of its machine'),
    'network_bandwidth': (float, 'GB/s from one machine to another one'),
    'node_latency': (float, 'microseconds of a message within a machine'),
    'network_latency': (float, 'microseconds of a message between machines'),
    'tflops': (float, '10^12 operations per second that a GPU sustains'),
    'step_time': (float, 'measured seconds of a step on one GPU, in place of --tflops'),
}
MIB = 2**20


def positive(kind: type) -> type:
    """Return a reader of positive numbers for the command line."""

    def read(text: str):
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    read.__name__ = f'positive {kind.__name__}'  # argparse names it in its message
    return read


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('--gpus', type=positive(int), nargs='+', default=[8], metavar='N')
    parser.add_argument(
        '--shape',
        type=positive(int),
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images (default: that of the training pipeline)',
    )
    parser.add_argument(
        '--images',
        type=positive(int),
        default=2,
        help='images that run on the CPU; memory is scaled to the batch size (default: 2)',
    )
    for field in fields(Cluster):
        kind, text = ASSUMPTIONS[field.name]
        parser.add_argument(
            f'--{field.name.replace("_", "-")}',
            type=positive(kind),
            default=field.default,
            metavar='X',
            help=text + ('' if field.default is None else f' (default: {field.default:g})'),
        )
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    return parser


def aligned(rows: list[list[str]]) -> list[str]:
    """Return the rows of a table as lines, all columns but the first one to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        '  '.join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def describe_counts(counts: StepCounts) -> list[str]:
    """Return the lines about one step of one GPU."""
    height, width = counts.image_size
    memory = {
        'parameters and buffers': counts.parameters,
        'gradients': counts.gradients,
        "DDP's buckets": counts.gradients,
        f'state of {counts.optimizer}': counts.optimizer_state,
        'saved for the backward pass': counts.saved,
        'sum': counts.memory,
    }
    exchanges = [['exchanges per step', 'operation', 'calls', 'bytes', 'smallest', 'largest']]
    for purpose in dict.fromkeys(exchange.purpose for exchange in counts.exchanges):
        same = [e for e in counts.exchanges if e.purpose == purpose]
        sizes = [e.nbytes for e in same]
        numbers = [len(sizes), sum(sizes), min(sizes), max(sizes)]
        exchanges.append([purpose, same[0].operation, *(f'{number:,}' for number in numbers)])
    return [
        f'One step of one GPU: {counts.batch_size} images of 3×{height}×{width} '
        f'(from {counts.size_source}), float32',
        f'Forward pass: {counts.forward_flops / 1e9:,.1f}·10^9 operations per image',
        '',
        *aligned([['memory', 'MiB'], *([k, f'{v / MIB:,.1f}'] for k, v in memory.items())]),
        f'What is saved was counted with {counts.counted_images} images and scaled to '
        f'{counts.batch_size}. Temporary tensors and the scratch memory of libraries come on top.',
        '',
        *aligned(exchanges),
    ]


def describe_estimates(estimates: list[Estimate]) -> list[str]:
    """Return the table of the numbers of GPUs."""
    head = ['GPUs', 'compute', 'norms', 'of which', 'gradients', 'efficiency']
    rate = ['images/s', 'images/s', 'images/s', 'MB/s']
    units = ['', 'ms', 'ms', 'Meta-ACON', 'ms', '%', 'all', 'per GPU', 'per worker', 'per node']
    rows = [[*head, *rate], units]
    for e in estimates:
        times = (e.compute, e.norms, e.norms_in_meta_acon, e.gradients)
        worker = e.images_per_second_per_worker
        rows.append(
            [
                str(e.gpus),
                *(f'{1e3 * seconds:.1f}' for seconds in times),
                f'{100 * e.efficiency_without_overlap:.1f} to {100 * e.efficiency:.1f}',
                f'{e.images_per_second:,.0f}',
                f'{e.images_per_second_per_gpu:,.1f}',
                '–' if worker is None else f'{worker:.1f}',
                f'{e.loader_bytes_per_second / 1e6:,.0f}',
            ]
        )
    return [
        *aligned(rows),
        'Efficiency: gradients exchanged after the backward pass, and during it. The images per '
        'second are those of the second, which the loader has to deliver.',
    ]


def main() -> None:
    """Parse the arguments, count, estimate and print."""
    args = build_parser().parse_args()
    cluster = Cluster(**{name: getattr(args, name) for name in ASSUMPTIONS})
    with report_user_errors():
        counts = count_step(args.config, args.shape, args.images, read_options(args.cfg_options))
    estimates = [estimate_run(counts, gpus, cluster) for gpus in args.gpus]
    if args.json:
        parts = {'counts': asdict(counts), 'assumptions': asdict(cluster)}
        print(json.dumps(parts | {'estimates': [asdict(estimate) for estimate in estimates]}))
        return
    given = {name: value for name, value in asdict(cluster).items() if value is not None}
    assumed = [
        [f'--{name.replace("_", "-")}', f'{value:g}', ASSUMPTIONS[name][1]]
        for name, value in given.items()
    ]
    print(*describe_counts(counts), '', 'Assumed, not measured:', sep='\n')
    print(*(f'  {flag:<19}{value:>6}  {text}' for flag, value, text in assumed), '', sep='\n')
    print(*describe_estimates(estimates), sep='\n')


if __name__ == '__main__':
    main()
