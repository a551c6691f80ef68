"""The page of faults: a row for each, which the tests compare or, on demand, write."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / 'docs' / 'faults.md'
WRITE_FLAG = '--write-faults'


class Table:
    """One table of the page.

    Args:
        title: What its two marks are called.
    """

    def __init__(self, title):
        self.marks = f'<!-- {title} -->\n', f'<!-- end of {title} -->\n'
        page = PAGE.read_text(encoding='utf-8')
        self.head, _, rest = page.partition(self.marks[0])
        body, _, self.tail = rest.partition(self.marks[1])
        self.rows = dict(line.strip('| ').split(' | ', 1) for line in body.splitlines()[2:])

    def write(self, rows):
        """Put rows, the outcome by the name of the fault, in the place of those of the page."""
        body = ''.join(f'| {name} | {said} |\n' for name, said in rows.items())
        lines = ('| Fault | What is said |\n| --- | --- |\n', body)
        PAGE.write_text(''.join([self.head, self.marks[0], *lines, self.marks[1], self.tail]))


def cell(said, **paths):
    """Return what was said as a cell: paths by their names, without what versions add.

    Args:
        said: The sentence.
        **paths: The folders that are shown by the name of the argument.
    """
    for name, path in paths.items():
        said = said.replace(str(path), name)
    said = re.sub(r'; it has \w+, .*', '', said)  # the arguments of a DataLoader
    said = re.sub(r' or \w+\?', '?', said)  # near names, where other libraries are imported too
    return '<br>'.join(line.strip() for line in said.replace('|', '\\|').splitlines())
