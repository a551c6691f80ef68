"""Pretrain, detect and segment with several activations and seeds, and compare the results.

Runs what is missing of the grid, or goes on where it was interrupted, and prints a small Table 9
and Table 10 with paired differences. Start it in the root of the project.
"""

import argparse
import signal
import sys
from pathlib import Path

import torch

from acon_mm.analysis.marks import check_marks, write_between_marks
from acon_mm.analysis.provenance import describe_run
from acon_mm.analysis.transfer_grid import dry_run, run_grid
from acon_mm.analysis.transfer_plan import (
    ACTIVATIONS,
    PRESETS,
    TASKS,
    ablation_variants,
    activation_variants,
    plan_chain,
)
from acon_mm.analysis.transfer_report import format_report, transfer_rows
from acon_mm.apis.cli import CfgOptions
from acon_mm.errors import UserError

TOOLS = Path(__file__).resolve().parents[1]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--preset',
        choices=tuple(PRESETS),
        default='digits',
        help='digits: ResNet-18 on DigitScenes, made for a CPU (default); paper: ResNet-50 on '
        'ImageNet, COCO and Cityscapes',
    )
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument(
        '--activations',
        nargs='+',
        default=list(ACTIVATIONS),
        metavar='NAME',
        help=f'rows of the tables, out of {", ".join(ACTIVATIONS)} (default: all)',
    )
    rows.add_argument(
        '--ablation',
        action='store_true',
        help='compare Meta-ACON with itself: other initial values, no norms inside, placement',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], metavar='N')
    parser.add_argument(
        '--baseline',
        nargs='+',
        default=[],
        metavar='ROW',
        help='rows that the others are compared with (default: the first)',
    )
    parser.add_argument(
        '--gpus', type=int, metavar='N', help='processes of each step (default: no launcher)'
    )
    parser.add_argument(
        '--work-dir', type=Path, metavar='DIR', help='default: work_dirs/transfer/PRESET'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        default={},
        metavar='KEY=VALUE',
        help='change values of the configs; classification.KEY, detection.KEY and '
        'segmentation.KEY change those of one task. Give a --work-dir of its own too',
    )
    parser.add_argument('--dry-run', action='store_true', help='print what would be run')
    parser.add_argument(
        '--limit-minutes',
        type=float,
        metavar='M',
        help='start no step after M minutes; 0 prints the tables of what is there',
    )
    parser.add_argument('--format', choices=('text', 'markdown', 'json'), default='text')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='Markdown file to write the tables to, between the lines <!-- transfer PRESET --> '
        'and <!-- end of transfer PRESET -->; for the ablation, <!-- ablation PRESET -->',
    )
    return parser


def main() -> None:
    """Parse the arguments, run what is missing and print the tables."""
    args = build_parser().parse_args()
    # So that an ended grid ends the step it is in.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        compare(args)
    except UserError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('interrupted; the same command goes on')


def compare(args: argparse.Namespace) -> None:
    """Run the grid that the command line asks for, and report."""
    if args.gpus is not None and args.gpus < 1:
        raise UserError(f'--gpus must be 1 or more, but it is {args.gpus}')
    preset = PRESETS[args.preset]
    root = (args.work_dir or Path('work_dirs', 'transfer', preset.name)).absolute()
    rows = ablation_variants(preset) if args.ablation else activation_variants(args.activations)
    # By seed first: pairs are complete early.
    chains = [
        plan_chain(preset, variant, seed, root, args.cfg_options, args.gpus)
        for seed in dict.fromkeys(args.seeds)
        for variant in rows
    ]
    mark = f'{"ablation" if args.ablation else "transfer"} {preset.name}'
    if args.out:
        check_marks(args.out, mark)  # before the hours that the grid takes
    transfer_rows(TASKS[0], chains, args.baseline)  # as is a wrong baseline
    if args.dry_run:
        left = dry_run(chains, TOOLS)
        print(f'# {left} steps')
        return
    # The JSON stands alone.
    progress = sys.stderr if args.format == 'json' else sys.stdout
    run_grid(
        preset,
        chains,
        root,
        TOOLS,
        limit_minutes=args.limit_minutes,
        say=lambda line: print(line, file=progress, flush=True),
    )
    print(format_report(chains, args.baseline, args.format))
    if args.out:
        head = describe_run('cuda' if torch.cuda.is_available() else 'cpu', sys.argv)
        tables = format_report(chains, args.baseline, 'markdown')
        write_between_marks(args.out, mark, f'{head}\n\n{tables}')


if __name__ == '__main__':
    main()
