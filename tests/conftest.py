"""What every test may ask for."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The folder of the checkout."""
    return ROOT
