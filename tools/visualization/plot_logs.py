"""Draw training curves of several runs, or bars of relative improvements.

plot_logs.py curves ReLU=DIR,DIR Swish=DIR,DIR --keys loss accuracy/top1
plot_logs.py bars --tables 2,3,6
plot_logs.py bars --report grid.json
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest='kind', required=True)
    curves = kinds.add_parser('curves', help='what runs logged, over iterations or epochs')
    curves.add_argument(
        'groups',
        nargs='+',
        metavar='TITLE=DIR,DIR',
        help='work dirs of runs; a band shows the range of those of one title, such as seeds',
    )
    curves.add_argument('--keys', nargs='+', default=['loss'], help='keys of the log')
    curves.add_argument(
        '--smooth', type=int, default=1, metavar='N', help='average N neighbouring values'
    )
    bars = kinds.add_parser('bars', help='how much better than ReLU the others are, in percent')
    source = bars.add_mutually_exclusive_group(required=True)
    source.add_argument('--tables', metavar='N,N', help='tables of the paper')
    source.add_argument(
        '--report', metavar='FILE', help='what tools/transfer/report.py --format json printed'
    )
    bars.add_argument(
        '--work-dirs',
        nargs='+',
        default=[],
        metavar='DIR',
        help="with --tables: folders of own runs, which count instead of the paper's figures",
    )
    for kind, name in ((curves, 'curves.png'), (bars, 'improvements.png')):
        kind.add_argument('--out', default=name, help='the figure, PNG, SVG or PDF by its name')
    return parser


def draw(args: argparse.Namespace) -> 'Figure':
    """Return the figure that the arguments ask for."""
    import json
    from pathlib import Path

    from acon_mm.analysis.improvements import (
        draw_improvements,
        improvements_of_grid,
        improvements_of_tables,
    )
    from acon_mm.analysis.log_curves import draw_curves_of_runs
    from acon_mm.analysis.paper_tables import paper_tables
    from acon_mm.errors import UserError

    if args.kind == 'curves':
        groups = {}
        for group in args.groups:
            title, equals, folders = group.partition('=')
            if not (title and equals and folders):
                raise UserError(f'group {group!r} must be TITLE=DIR or TITLE=DIR,DIR')
            groups[title] = folders.split(',')
        return draw_curves_of_runs(groups, args.keys, args.smooth)
    if args.report:
        try:
            report = json.loads(Path(args.report).read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise UserError(f'report {args.report!r} cannot be read: {error}') from error
        return draw_improvements(improvements_of_grid(report))
    numbers = args.tables.split(',')
    if not all(number.isdecimal() for number in numbers):
        raise UserError(f'--tables {args.tables!r} must be numbers such as 2,3')
    tables = paper_tables([int(number) for number in numbers], args.work_dirs, print)
    return draw_improvements(improvements_of_tables(tables))


if __name__ == '__main__':
    arguments = build_parser().parse_args()
    # Takes seconds, which --help should not.
    from acon_mm.analysis.figures import save_figure
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        print(f'Wrote {save_figure(draw(arguments), arguments.out)}')
