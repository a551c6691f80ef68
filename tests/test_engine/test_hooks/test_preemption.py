import os
import signal

import pytest
import torch
from acon_random_toy import random_config
from mmengine.hooks import Hook

from acon_mm.checkpoints import load_from_local
from acon_mm.checkpoints.finding import find_newest_whole
from acon_mm.errors import Interrupted, UserError

PREEMPTION = {'default_hooks.preemption': {'type': 'acon_mm.PreemptionHook'}}


class Signal(Hook):
    """Send a signal to this process in the middle of an epoch."""

    def __init__(self, name):
        self.number = getattr(signal, name)

    def before_train_iter(self, runner, **kwargs):
        if runner.iter == 5:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
@pytest.mark.parametrize('by_epoch', [True, False], ids=['epochs', 'iterations'])
def test_a_signal_saves_the_iteration_and_a_resume_ends_the_same(toy, tmp_path, by_epoch, name):
    toy(random_config(tmp_path / 'whole', by_epoch=by_epoch))
    cfg = random_config(tmp_path / 'run', by_epoch=by_epoch, **PREEMPTION)
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)]
    with pytest.raises(Interrupted) as ended:
        toy(cfg, hook=Signal(name))
    assert ended.value.code == 75
    assert handlers == [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)]
    saved = find_newest_whole(cfg.work_dir)
    assert saved.name == (
        'interrupted_epoch_1_iter_6.pth' if by_epoch else 'interrupted_iter_6.pth'
    )

    assert toy(cfg, resume=True).iter == 16
    assert not saved.exists()
    a, b = (load_from_local(find_newest_whole(tmp_path / name)) for name in ('whole', 'run'))
    torch.testing.assert_close(a['state_dict'], b['state_dict'], rtol=0, atol=0)


def test_the_checkpoint_hook_that_it_needs_is_named(toy, tmp_path):
    changes = {'default_hooks.checkpoint.type': 'mmengine.CheckpointHook', **PREEMPTION}
    with pytest.raises(UserError, match=r'default_hooks\.checkpoint\.type'):
        toy(random_config(tmp_path, **changes))


def test_without_checkpoints_there_is_nothing_to_save_and_signals_are_left_alone(toy, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)

    class Look(Hook):
        def before_train_iter(self, runner, **kwargs):
            assert signal.getsignal(signal.SIGTERM) is handler

    changes = {'default_hooks.checkpoint': None, **PREEMPTION}
    assert toy(random_config(tmp_path, **changes), hook=Look()).iter == 16
