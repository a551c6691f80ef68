import sys
from itertools import count
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / 'tools' / 'benchmarks'
# As Python does for a script: its neighbours are modules.
sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture
def counting_clock(monkeypatch):
    """Let a second pass from each stamp to the next."""
    moments = map(float, count())
    for module in ('activation', 'train_step'):
        monkeypatch.setattr(f'{module}.stamp', lambda device: next(moments))
