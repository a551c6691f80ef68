"""The documents for contributors and citations say what is there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from acon_mm.version import __version__

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
COMMANDS = [
    line.strip()
    for block in re.findall(r'```bash\n(.*?)\n *```', CONTRIBUTING, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize('command', COMMANDS)
def test_a_command_of_contributing_names_a_target_or_files_that_exist(command):
    program, *arguments = shlex.split(command, comments=True)
    if program == 'make':
        targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
        assert arguments[0] in targets
    else:
        assert program == '.venv/bin/python'
        paths = [argument for argument in arguments if not argument.startswith('--')]
        assert paths
        for path in paths:
            assert (ROOT / path).is_file(), path


def test_paths_and_links_of_contributing_exist():
    paths = re.findall(r'`((?:acon_mm|configs|requirements|tests|tools)/[^`]*)`', CONTRIBUTING)
    links = re.findall(r'\]\((?!https?:)([^)#]+)', CONTRIBUTING)
    assert paths and links
    for path in (*paths, *links):
        assert (ROOT / path).exists(), path


def test_the_version_has_a_section_in_the_changelog():
    changelog = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
    heading = rf'^## {re.escape(__version__)} - \d{{4}}-\d\d-\d\d$'
    assert re.search(heading, changelog, re.MULTILINE)


def test_the_citation_file_names_the_paper_as_the_readme_does():
    cff = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert {'cff-version', 'title', 'message', 'authors'} <= set(cff)  # what its format requires
    paper = cff['preferred-citation']
    bibtex = (ROOT / 'README.md').read_text(encoding='utf-8').partition('@inproceedings')[2]
    authors = ' and '.join(f'{a["family-names"]}, {a["given-names"]}' for a in paper['authors'])
    assert f'title={{{paper["title"]}}}' in bibtex
    assert f'author={{{authors}}}' in bibtex
    assert f'year={{{paper["year"]}}}' in bibtex
