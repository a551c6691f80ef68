"""Print tables of the paper with our figures beside the paper's.

With --update it instead rewrites the tables in READMEs: the text between the lines
<!-- tables 2,3 --> and <!-- end of tables 2,3 -->.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def numbers(text: str) -> list[int]:
    """Read ``2,3`` from the command line."""
    return [int(part) for part in text.split(',')]


def update(path: Path) -> None:
    """Rewrite the tables in a README of this project."""
    from acon_mm.analysis.table_format import fill_tables
    from acon_mm.errors import UserError

    if not path.is_file():
        raise UserError(f'--update names {str(path)!r}, which is not a file')
    folder = path.resolve().parent
    if not folder.is_relative_to(ROOT):
        raise UserError(f'--update names {str(path)!r}, which is not in {ROOT}')
    base = folder.relative_to(ROOT).as_posix()
    path.write_text(fill_tables(path.read_text(encoding='utf-8'), base), encoding='utf-8')


def main() -> None:
    """Parse the arguments and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--tables', type=numbers, metavar='N,N', help='numbers of the tables (default: all)'
    )
    parser.add_argument('--format', choices=('text', 'markdown', 'json'), default='text')
    parser.add_argument(
        '--work-dirs',
        nargs='+',
        default=[],
        metavar='DIR',
        help='folders with runs, such as work_dirs or the work dirs of single models; the metrics '
        'of the latest finished run are printed beside those of the paper, with the difference',
    )
    parser.add_argument(
        '--base',
        default='.',
        metavar='DIR',
        help='folder of the project that links in Markdown start from, such as '
        'configs/classification',
    )
    parser.add_argument(
        '--update', nargs='+', type=Path, default=[], metavar='README', help='files to update'
    )
    args = parser.parse_args()
    # Takes seconds, which --help should not.
    from acon_mm.analysis.paper_tables import paper_tables
    from acon_mm.analysis.table_format import format_tables
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        for path in args.update:
            update(path)
        if not args.update:
            log = partial(print, file=sys.stderr)
            tables = paper_tables(args.tables, args.work_dirs, log)
            print(format_tables(tables, args.format, args.base))


if __name__ == '__main__':
    main()
