"""A grid of toy configs, whose trainings and tests are stood in for."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import yaml

collect_ignore_glob = []
if importlib.util.find_spec('snakemake') is None:  # it needs Python 3.11
    collect_ignore_glob = ['test_*.py']

TOOLS = Path(__file__).parents[3] / 'tools'
sys.path.insert(0, str(TOOLS / 'transfer'))

TOY = """
model = dict(backbone=dict(type='Toy', act_cfg=dict(type='ReLU', slope=0)))
train_cfg = dict(max_epochs=2)
test_dataloader = dict(batch_size=1)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
"""
GRID = {
    'work_dir': 'runs',
    'prepare': 'python make.py',
    'seeds': [0, 1],
    'activations': {'relu': {}, 'acon': {'title': 'ACON', 'act_cfg': {'type': 'Acon'}}},
    'tasks': {
        'classify': {'config': 'toy.py', 'metrics': ['Top 1 Error']},
        'detect': {'config': 'toy.py', 'metrics': ['box AP'], 'after': 'classify'},
    },
}
# Leaves what train.py and test.py leave. Where a file `hold` is, a detector's training stops.
TOOL = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index('--work-dir') + 1])
if Path(sys.argv[0]).name == 'train.py':
    for epoch in (1, 2):
        (folder / f'epoch_{epoch}.pth').write_text(' '.join(sys.argv))
        (folder / 'last_checkpoint').write_text(f'/elsewhere/epoch_{epoch}.pth')
        if folder.name == 'detect' and Path('hold').exists():
            Path('hold').write_text(str(os.getpid()))
            time.sleep(300)
else:
    (folder / '1').mkdir()
    logged = '{"accuracy/top1": 75, "coco/bbox_mAP": 0.5}'
    (folder / '1' / '1.json').write_text(Path('logged').read_text() or logged)
"""


@pytest.fixture(scope='session')
def make_grid():
    """Return a function that makes the toy grid, with some keys of its config changed."""
    from grid import Grid

    return lambda **changes: Grid(json.loads(json.dumps(GRID | changes)))


@pytest.fixture(scope='session')
def write_project():
    """Return a function that writes the toy grid, and stand-ins for what it runs, to a folder."""

    def write(root):
        (root / 'toy.py').write_text(TOY)
        (root / 'grid.yaml').write_text(yaml.safe_dump(GRID))
        (root / 'tools').mkdir()
        for name in ('tools/train.py', 'tools/test.py'):
            (root / name).write_text(TOOL)
        for name in ('make.py', 'logged'):
            (root / name).write_text('')
        return root

    return write


@pytest.fixture
def project(tmp_path, monkeypatch, write_project):
    """Move to a folder with the toy grid."""
    import step

    monkeypatch.setattr(step, 'TOOLS', write_project(tmp_path) / 'tools')
    monkeypatch.chdir(tmp_path)
    return tmp_path
