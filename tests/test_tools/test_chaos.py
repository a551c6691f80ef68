"""A run that is killed (SIGKILL) at random instants ends with the weights of one that was not."""

import os
import random
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools/misc'))
import chaos

KILLS = 3  # of each kind: more than 20 in all
KINDS = [
    pytest.param(name, marks=[pytest.mark.slow] * (kind.processes + kind.workers > 1))
    for name, kind in chaos.KINDS.items()
]


@pytest.fixture
def memory():
    """A folder in memory, where a save takes less than waiting for a disk."""
    parent = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


@pytest.mark.parametrize('name', KINDS)
def test_killed_at_random_instants_it_ends_the_same(memory, name):
    tally = chaos.kill_often(chaos.KINDS[name], KILLS, memory, random.Random(name))
    assert tally.kills >= KILLS
    assert tally.is_good, tally


def test_other_weights_are_told(memory):
    paths = [memory / name for name in ('whole', 'other')]
    for seed, path in enumerate(paths):
        cfg = chaos.KINDS['epochs'].config(path)
        cfg.randomness.seed = seed
        assert chaos.start(chaos.KINDS['epochs'], cfg, [], memory / 'note', memory / 'log')
    assert chaos.is_same(str(paths[0]), str(paths[0]))
    assert not chaos.is_same(*map(str, paths))
