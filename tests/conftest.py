"""What every test may ask for."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# pytest imports every file to look for examples, but these belong into processes of their own.
collect_ignore = ['test_ops/triton_interpreted.py', 'test_tools/toy_project']

settings.register_profile('same', derandomize=True)
settings.load_profile('same')


sys.path.insert(0, str(ROOT / 'tests' / 'faults'))
from table import WRITE_FLAG, Table  # noqa: E402


def pytest_addoption(parser):
    """Add the flag that writes the page of faults instead of comparing it."""
    parser.addoption(WRITE_FLAG, action='store_true', help='write the rows of docs/faults.md')


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker('gpu') and not torch.cuda.is_available():
        pytest.skip('torch sees no GPU')


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope='module')
def hold_row(request):
    """Compare what was said about a fault with its row in a table of docs/faults.md."""
    tables, written = {}, {}

    def hold(title, name, said):
        if request.config.getoption(WRITE_FLAG):
            written.setdefault(title, {})[name] = said
            return
        table = tables.setdefault(title, Table(title))
        assert table.rows.get(name) == said, f'pytest -n 0 {WRITE_FLAG} {request.path} writes it'

    yield hold
    for title, rows in written.items():
        Table(title).write(rows)


@pytest.fixture(autouse=True)
def seed():
    """Give a test the same random numbers by itself as in the whole suite."""
    torch.manual_seed(0)


@pytest.fixture
def separate_norms(monkeypatch):
    """Have norms and activations called one after the other, as ACON_MM_BACKEND=plain has them."""
    monkeypatch.setattr('acon_mm.ops.backends._forced', 'plain')


@pytest.fixture(autouse=True)
def no_default_scope():
    """Leave no default scope behind: one that a runner set would decide what later tests find."""
    yield
    if registry := sys.modules.get('mmengine.registry'):  # some tests run with torch alone
        registry.DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def digit_scenes(tmp_path_factory):
    """A DigitScenes folder of a few images."""
    from acon_mm.datasets import BuildOptions, build_digit_scenes

    out = tmp_path_factory.mktemp('data') / 'digit_scenes'
    options = BuildOptions(
        num_train=20, num_val=4, num_train_crops=40, num_val_crops=10, image_size=96, crop_size=32
    )
    build_digit_scenes(out, options, log=lambda line: None)
    return out
