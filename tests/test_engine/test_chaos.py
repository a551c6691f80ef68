"""A run that is killed (SIGKILL) at random instants ends with the weights of one that was not.

ACON_MM_CHAOS_KILLS says how often each kind of run is killed.
"""

import os
import random
import signal
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

import pytest
import torch
from acon_random_toy import random_config

from acon_mm.checkpoints import load_from_local
from acon_mm.checkpoints.finding import find_newest_whole

KILLS = int(os.environ.get('ACON_MM_CHAOS_KILLS', '7'))
KINDS = {
    'epochs': {},
    # A checkpoint each iteration, so that many kills fall into a save.
    'within_epochs': {'default_hooks.checkpoint': {'by_epoch': False, 'interval': 1}},
    'iterations': {'default_hooks.checkpoint': {'by_epoch': False, 'interval': 1}},
}


def run_for(seconds, train):
    """Train in a child of this process, killed after some seconds; return how it ended."""
    child = os.fork()
    if not child:
        try:
            train()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True  # it was faster
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or not os.WEXITSTATUS(status)
    return not os.WIFSIGNALED(status)


@pytest.fixture
def memory():
    """A folder in memory, where a save takes less than waiting for a disk."""
    parent = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


@pytest.mark.parametrize('kind', KINDS)
def test_killed_at_random_instants_it_ends_the_same(toy, memory, kind):
    def config(name):
        length = (
            {'train_cfg.max_iters': 40} if kind == 'iterations' else {'train_cfg.max_epochs': 10}
        )
        changes = {'default_hooks.checkpoint.save_best': 'acc', **KINDS[kind], **length}
        return random_config(memory / name, by_epoch=kind != 'iterations', **changes)

    start = time.monotonic()
    toy(config('whole'))
    duration = time.monotonic() - start
    expected = load_from_local(find_newest_whole(memory / 'whole'))

    cfg, kills, instants = config('killed'), 0, random.Random(kind)
    while kills < KILLS:
        ended = run_for(instants.uniform(0.3, 0.9) * duration, partial(toy, cfg, resume=True))
        kills += not ended
        if ended:  # start over, with kills still to come
            cfg = config(f'killed_{kills}')
    toy(cfg, resume=True)
    found = load_from_local(find_newest_whole(cfg.work_dir))
    for part in ('state_dict', 'optimizer'):
        torch.testing.assert_close(found[part], expected[part], rtol=0, atol=0)
    assert found['meta']['iter'] == 40
    assert not list(Path(cfg.work_dir).glob('.*.tmp'))
