"""The documents for contributors and citations say what is there."""

import re
import shlex
import subprocess
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


@pytest.fixture
def tutorial(tmp_path, monkeypatch):
    """The config of docs/fine_tuning.md as a file in an empty folder, and its text."""
    page = (ROOT / 'docs/fine_tuning.md').read_text(encoding='utf-8')
    name, text = re.search(r'```python (\S+/loops\.py)\n(.*?)```', page, re.DOTALL).groups()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_the_config_of_the_tutorial_is_short_and_names_its_classes_once(tutorial):
    from acon_mm.apis.config import load_checked_config

    text = tutorial.read_text()
    assert len(text.splitlines()) <= 20
    cfg = load_checked_config(tutorial)
    names = cfg.train_dataloader.dataset.metainfo.classes
    assert all(text.count(name) == 1 for name in names)
    assert cfg.model.bbox_head.num_classes == len(names) == 3
    for split, annotations in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.metainfo.classes == names
        assert Path(dataset.data_root, dataset.ann_file) == Path(f'data/loops/{annotations}.json')
    assert cfg.test_evaluator.ann_file == 'data/loops/val.json'


def test_the_commands_of_a_page_run_in_order_up_to_the_first_failure(tmp_path):
    blocks = [
        ('python a.txt', '$HOME "quoted"'),
        ('bash', 'cat \\\n    a.txt'),
        ('text', 'echo not a command'),
        ('bash', 'false | true\necho not reached'),
    ]
    fences = [f'```{kind}\n{text}\n```\nwords\n' for kind, text in blocks]
    (tmp_path / 'page.md').write_text('\n'.join(fences))
    command = [str(ROOT / '.ci/run_page'), 'page.md']
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (1, '$HOME "quoted"\n', '')
