"""What every test may ask for."""

from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def no_default_scope():
    """Leave no default scope behind: one that a runner set would decide what later tests find."""
    yield
    DefaultScope._instance_dict.clear()
