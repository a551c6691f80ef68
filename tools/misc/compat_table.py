"""Write the outcome of the tests in one environment into the table of docs/compatibility.md."""

import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree
from datetime import date
from importlib import metadata
from pathlib import Path

START, END = '<!-- rows -->\n', '<!-- end of rows -->\n'
LIBRARIES = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmdetection', 'mmsegmentation')


def version(name: str) -> str | None:
    """Return the version of a distribution, None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def stack() -> str:
    """Return the names and versions of OpenMMLab's libraries in this Python."""
    names = (prefix + name for prefix in ('', 'onedl-') for name in LIBRARIES)
    found = [f'{name} {version(name)}' for name in names if version(name)]
    return ', '.join(found) or 'none'


def kernel() -> str:
    """Return what computes ACON on the CPU, as the report of acon_mm says it."""
    from acon_mm.ops import backend_report

    line = backend_report().splitlines()[0]
    return line.removeprefix('cpu: ').partition(',')[0]


def outcome(path: Path) -> tuple[str, list[str]]:
    """Return the numbers of tests that passed, failed and were skipped, and the failures."""
    cases = list(ElementTree.parse(path).getroot().iter('testcase'))
    failures, skipped = [], 0
    for case in cases:
        found = [part for part in case if part.tag in ('failure', 'error')]
        skipped += any(part.tag == 'skipped' for part in case)
        if found:
            place = f'{case.get("classname", "").rpartition(".")[2]}::{case.get("name")}'
            reason = re.sub(r'\s+', ' ', found[0].get('message', ''))[:200]
            failures.append(f'`{place}`: {reason}'.replace('|', '\\|'))
    passed = len(cases) - len(failures) - skipped
    return f'{passed} | {len(failures)} | {skipped}', failures


def updated(page: str, row: str, line: str, failures: list[str]) -> str:
    """Return the page with the line of a row and the section of its failures."""
    head, _, rest = page.partition(START)
    table, _, tail = rest.partition(END)
    kept = [other for other in table.splitlines() if not other.startswith(f'| {row} |')]
    table = '\n'.join([*kept[:2], *sorted([*kept[2:], line])])
    tail = re.sub(rf'\n### {re.escape(row)}\n.*?(?=\n### |\Z)', '', tail, flags=re.DOTALL)
    if failures:
        tail = tail.rstrip('\n') + f'\n\n### {row}\n\n' + '\n'.join(f'- {f}' for f in failures)
    return f'{head}{START}{table}\n{END}{tail.rstrip()}\n'


def main() -> None:
    """Read the report of pytest and write the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('row', help='name of the row')
    parser.add_argument('report', type=Path, help='what pytest --junitxml wrote')
    parser.add_argument('page', type=Path, help='the page to change')
    args = parser.parse_args()
    numbers, failures = outcome(args.report)
    python = '.'.join(map(str, sys.version_info[:3]))
    line = (
        f'| {args.row} | {python} | {version("torch")} | {version("numpy")} | {stack()} | '
        f'{kernel()} | {numbers} | {date.today()} |'
    )
    page = args.page.read_text(encoding='utf-8')
    args.page.write_text(updated(page, args.row, line, failures), encoding='utf-8')
    print(line, *failures, sep='\n')


if __name__ == '__main__':
    main()
