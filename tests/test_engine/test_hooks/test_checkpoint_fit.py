import copy
from collections import OrderedDict

import pytest
import torch
from acon_random_toy import random_config
from mmengine.logging import MMLogger

from acon_mm.checkpoints import load_from_local
from acon_mm.engine.hooks.checkpoint_fit import misfits
from acon_mm.errors import CheckpointMisfitError, UserError

FIT = {'default_hooks.fit': {'type': 'acon_mm.CheckpointFitHook'}}


@pytest.fixture
def trained(toy, tmp_path):
    """The config of a run that has ended, and its checkpoint."""
    cfg = random_config(tmp_path / 'run', **FIT)
    toy(cfg)
    return cfg, tmp_path / 'run/epoch_4.pth'


def changed(path, change):
    """Write a changed copy of a checkpoint and return its path."""
    content = load_from_local(path)
    torch.save(
        {} if change is nothing else change(content) or content, path.with_name('changed.pth')
    )
    return str(path.with_name('changed.pth'))


def width(content):
    content['state_dict']['last.weight'] = torch.zeros(1, 9)


def network(content):
    content['state_dict'] = torch.nn.Linear(2, 2).state_dict()


def activation(content):
    del content['state_dict']['act.beta']


def more(content):
    content['state_dict']['extra.p1'] = torch.zeros(1)


def nothing(content):
    pass


def other_optimizer(content):
    parameter = torch.nn.Parameter(torch.ones(2))
    content['optimizer'] = torch.optim.AdamW([parameter]).state_dict()


def other_groups(content):
    content['optimizer']['param_groups'][0]['params'].pop()


def no_training(content):
    return {'state_dict': content['state_dict']}


MISFITS = {
    width: r'of another shape: last\.weight \(.*1, 9.* instead of .*1, 8',
    network: r'missing: first\.weight, first\.bias, .* more; unexpected: weight, bias',
    activation: r'missing: act\.beta\)',
    more: r'unexpected: extra\.p1\)',
    nothing: 'holds no state dict',
}
NOT_RESUMED = {
    other_optimizer: r'another optimizer: options betas instead of dampening',
    other_groups: r'another optimizer: \d+ parameters in 1 groups instead of',
    no_training: 'no state of a training',
}


@pytest.mark.parametrize('change', MISFITS)
@pytest.mark.parametrize('resume', [False, True])
def test_what_does_not_fill_the_model_is_refused(toy, trained, change, resume):
    cfg, path = trained
    cfg.load_from = changed(path, change)
    with pytest.raises(UserError, match=MISFITS[change]) as error:
        toy(cfg, resume=resume)
    assert '\n' not in str(error.value)
    assert 'changed.pth' in str(error.value)


@pytest.mark.parametrize('change', NOT_RESUMED)
def test_weights_without_their_training_start_a_run_but_do_not_resume_one(toy, trained, change):
    cfg, path = trained
    cfg.load_from = changed(path, change)
    with pytest.raises(CheckpointMisfitError, match=NOT_RESUMED[change]):
        toy(cfg, resume=True)
    assert toy(cfg).iter == 16


def test_a_part_is_loaded_where_that_is_asked_for(toy, trained):
    cfg, path = trained
    cfg.load_from = changed(path, width)
    cfg.default_hooks.fit.allow_partial = True
    assert toy(cfg).iter == 16
    with pytest.raises(CheckpointMisfitError, match=r'last\.weight'):
        toy(cfg, resume=True)


def test_the_log_says_what_changed_since(toy, trained, monkeypatch):
    cfg, _ = trained
    cfg.merge_from_dict({'train_dataloader.batch_size': 4, 'train_cfg.max_epochs': 5})
    lines = []
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text, *args: lines.append(text))
    toy(cfg, resume=True)
    (line,) = (line for line in lines if 'changed since' in line)
    assert 'train_dataloader.batch_size: 3 → 4' in line
    assert 'train_cfg.max_epochs: 4 → 5' in line
    assert line.count('→') == 2


def test_names_that_modules_translate_are_no_difference():
    class Renamed(torch.nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *args):
            if prefix + 'old' in state_dict:
                state_dict[prefix + 'weight'] = state_dict.pop(prefix + 'old')
            super()._load_from_state_dict(state_dict, prefix, *args)

    model = torch.nn.Sequential(Renamed(2, 3), torch.nn.BatchNorm1d(3))
    state = OrderedDict(
        ('module.' + k.replace('0.weight', '0.old'), v.clone())
        for k, v in model.state_dict().items()
    )
    del state['module.1.num_batches_tracked']
    before = copy.deepcopy(state)
    assert misfits(model, {'state_dict': state}, 'x.pth') == {}
    assert list(state) == list(before)
