"""A step is never taken for another: not with other settings, not after another classifier."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from acon_mm.analysis import transfer_identity
from acon_mm.analysis.transfer_identity import PRETRAINED, differing_keys, step_identity
from acon_mm.analysis.transfer_steps import run_step, step_result
from acon_mm.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from transfer_fake import FakeExecute, plan

TOOLS = Path('tools')


def steps(root, **kwargs):
    (chain,) = plan(root, ['metaacon'], [0], **kwargs)
    return {step.name: step for step in chain.steps}


@pytest.fixture
def pretrained(tmp_path):
    """A folder with a finished pretraining."""
    run_step(steps(tmp_path)['pretrain'], FakeExecute(), TOOLS)
    return tmp_path


@pytest.mark.parametrize(
    ('changed', 'told'),
    [
        ({'options': {'optim_wrapper.optimizer.lr': 2}}, 'config.optim_wrapper.optimizer.lr'),
        ({'options': {'model.backbone.act_cfg.norm_cfg': None}}, "norm_cfg 'absent', not None"),
        ({'processes': 2}, 'processes 1, not 2'),
    ],
)
def test_a_step_with_other_settings_is_refused_by_the_key_that_differs(pretrained, changed, told):
    other = steps(pretrained, **changed)['pretrain']
    for use in (step_result, lambda step: run_step(step, FakeExecute(), TOOLS)):
        with pytest.raises(UserError, match=f'other settings .*{told}.*another --work-dir'):
            use(other)


def test_a_step_after_a_changed_one_is_another_step(tmp_path):
    changed = steps(tmp_path, options={'classification.train_cfg.max_epochs': 9})
    for name, step in steps(tmp_path).items():
        keys = differing_keys(step_identity(step), step_identity(changed[name]))
        assert keys == (['config.train_cfg.max_epochs'] if name == 'pretrain' else ['after'])


def test_what_is_logged_and_kept_is_no_part_of_the_identity(tmp_path):
    options = {'default_hooks.logger.interval': 3, 'default_hooks.checkpoint.interval': 7}
    for name, step in steps(tmp_path, options=options).items():
        assert step_identity(step) == step_identity(steps(tmp_path)[name])


def test_a_checkpoint_that_the_environment_names_changes_nothing(tmp_path, monkeypatch):
    step = steps(tmp_path)['detection']
    monkeypatch.setenv(PRETRAINED, 'mine.pth')
    transfer_identity._read.cache_clear()  # or the config would not be read
    assert 'mine.pth' not in str(step_identity(step))
    assert 'mine.pth' not in str(transfer_identity._read(step.config, ()))


@pytest.mark.parametrize('again', [False, True])
def test_what_started_from_a_training_that_was_removed_or_replaced_is_refused(pretrained, again):
    found = steps(pretrained)
    names = ('pretrain_test', 'detection', 'detection_test')
    for name in names:
        run_step(found[name], FakeExecute(), TOOLS)
    shutil.rmtree(found['pretrain'].folder)
    if again:
        run_step(found['pretrain'], FakeExecute(), TOOLS)
    for name in names[:2]:
        message = rf"{name}' started from a run of 'pretrain' that has been removed or replaced"
        with pytest.raises(UserError, match=message):
            step_result(found[name])
    # Its detector is there; the chain is refused by the detector itself.
    assert step_result(found['detection_test'])['metrics']


def test_a_folder_that_nobody_described_is_refused(pretrained):
    step = steps(pretrained)['pretrain']
    (step.folder / 'identity.json').unlink()
    with pytest.raises(UserError, match='unknown settings'):
        step_result(step)


@pytest.mark.parametrize('when', ['before', 'while'])
def test_a_config_that_changes_under_a_running_grid_stops_it(tmp_path, when):
    config = tmp_path / 'configs' / 'classification' / 'inherits.py'
    base = tmp_path / 'configs' / '_base_' / 'base.py'
    for path in (config, base):
        path.parent.mkdir(parents=True)
    config.write_text("_base_ = '../_base_/base.py'\n")
    base.write_text('train_cfg = dict(max_epochs=1)\n')
    step = replace(steps(tmp_path / 'grid')['pretrain'], config=str(config), options={})
    step_identity(step)

    def change():
        base.write_text('train_cfg = dict(max_epochs=2)\n')

    execute = FakeExecute()
    if when == 'before':
        change()
    with pytest.raises(UserError, match='has changed since the grid was started'):
        run_step(step, lambda *call: (execute(*call), change()), TOOLS)
    assert len(execute.calls) == (when == 'while')
    assert step_result(step) is None
