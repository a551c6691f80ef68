import re

import pytest
from acon_random_toy import random_config
from mmengine.hooks import Hook

from acon_mm.checkpoints import load_from_local
from acon_mm.checkpoints.finding import find_newest_whole
from acon_mm.errors import UnhealthyRunError

HEALTH = {'default_hooks.health': {'type': 'acon_mm.HealthHook', 'interval': 1}}


class Spoil(Hook):
    """Make something NaN before iteration 7, the third of the second epoch."""

    def __init__(self, spoil):
        self.spoil = spoil

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 6:
            self.spoil(runner, data_batch)


def fill(tensor):
    tensor.data.fill_(float('nan'))


FAULTS = {
    'input': (lambda runner, batch: fill(batch[0]), 'first seen in the input of first;'),
    'target': (lambda runner, batch: fill(batch[1]), 'loss is not finite; '),
    'overflow': (
        lambda runner, batch: runner.model.last.weight.data.fill_(3e38),
        'first seen in last;',
    ),
    'activation': (lambda runner, batch: fill(runner.model.act.beta), 'first seen in act.beta;'),
    'buffer': (
        lambda runner, batch: fill(runner.model.norm.running_var),
        'first seen in norm.running_var;',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_the_run_stops_and_keeps_its_last_good_checkpoint(toy, tmp_path, fault):
    spoil, named = FAULTS[fault]
    cfg = random_config(tmp_path, **HEALTH)
    with pytest.raises(UnhealthyRunError) as error:
        toy(cfg, hook=Spoil(spoil))
    message = str(error.value)
    assert named in message
    assert '\n' not in message
    assert int(re.search(r'at iteration (\d+)', message)[1]) == (8 if fault == 'buffer' else 7)
    assert 'learning rate' in message
    kept = find_newest_whole(tmp_path)
    assert kept.name == 'epoch_1.pth'
    assert str(kept) in message
    assert all(tensor.isfinite().all() for tensor in load_from_local(kept)['state_dict'].values())


def test_a_gradient_norm_is_looked_at(toy, tmp_path):
    changes = {'optim_wrapper.clip_grad': {'max_norm': 1.0}}

    def overflow(runner, batch):
        batch[1].data.fill_(1e19)  # its square is finite, the square of the gradient is not

    with pytest.raises(UnhealthyRunError, match='the gradient norm is not finite'):
        toy(random_config(tmp_path, **HEALTH, **changes), hook=Spoil(overflow))


def test_a_healthy_run_is_left_alone(toy, tmp_path):
    changes = {'optim_wrapper.clip_grad': {'max_norm': 1.0}}
    assert toy(random_config(tmp_path, **HEALTH, **changes)).iter == 16
