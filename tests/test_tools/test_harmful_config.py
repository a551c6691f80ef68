"""No way of reading a checkpoint runs the config texts inside it."""

import pytest
import torch
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.runner.checkpoint import CheckpointLoader

from acon_mm import apis

PLACES = {
    "meta['config']": ('meta', 'config'),
    "meta['cfg']": ('meta', 'cfg'),
    "message_hub['runtime_info']['cfg']": ('message_hub', 'runtime_info', 'cfg'),
}
PROGRAM = "open('payload', 'w')\nmodel = dict(type='ToyModel')"


@pytest.fixture
def state_with():
    """Put a text at a place of a checkpoint that has been trained for one epoch."""

    def put(path, keys, text):
        state = torch.load(path, weights_only=False)
        owner = state
        for key in keys[:-1]:
            owner = owner.setdefault(key, {})
        owner[keys[-1]] = text
        torch.save(state, path)

    return put


@pytest.fixture
def trained(toy_config):
    """Train the toy for an epoch."""
    apis.train(toy_config, work_dir='run')
    return 'run/epoch_1.pth'


def test_a_resume_leaves_a_program_out_and_goes_on(
    run_tool, toy_config, trained, state_with, tmp_path
):
    for keys in PLACES.values():
        state_with(trained, keys, PROGRAM)
    arguments = '--resume', trained, '--work-dir', 'again'
    run = run_tool('train.py', toy_config, *arguments, '--cfg-options', 'train_cfg.max_epochs=2')
    assert run.returncode == 0, run.stderr
    assert 'resumed epoch: 1' in run.stdout + run.stderr
    for place in PLACES:
        assert f'the config text in {place} holds more than values' in run.stdout + run.stderr
    assert not (tmp_path / 'payload').exists()


def test_a_resume_does_not_run_a_harmless_text_either(
    toy_config, trained, state_with, monkeypatch
):
    state_with(trained, PLACES["meta['config']"], 'gpu_ids = [0, 1, 2]')

    def fromstring(*args, **kwargs):
        raise AssertionError('a text of a checkpoint was run')

    monkeypatch.setattr(Config, 'fromstring', fromstring)
    apis.train(toy_config, resume=trained, cfg_options={'train_cfg.max_epochs': 2})


@pytest.mark.parametrize('place', [name for name in PLACES if 'cfg' in name])
def test_an_inferencer_without_a_config_runs_no_program(trained, state_with, tmp_path, place):
    state_with(trained, ('message_hub', 'runtime_info', 'cfg'), PROGRAM)
    state_with(trained, PLACES[place], PROGRAM)
    state = CheckpointLoader.load_checkpoint(trained, 'cpu', logger=None)
    assert 'cfg' not in state['message_hub']['runtime_info']
    state_with(trained, ('meta', 'cfg'), PROGRAM)
    with pytest.raises(ValueError, match='Cannot find the config'):
        BaseInferencer._init_model(None, Config(), trained)
    assert not (tmp_path / 'payload').exists()


def test_the_config_of_a_run_is_read_as_it_was_written(trained):
    state = CheckpointLoader.load_checkpoint(trained, 'cpu', logger=None)
    written = torch.load(trained, weights_only=False)
    for keys in (('meta', 'cfg'), ('message_hub', 'runtime_info', 'cfg')):
        here, there = state, written
        for key in keys:
            here, there = here[key], there[key]
        assert here == there
        assert "type='ToyModel'" in here


def test_test_and_load_from_run_no_program(toy_config, trained, state_with, tmp_path):
    for keys in PLACES.values():
        state_with(trained, keys, PROGRAM)
    apis.test(toy_config, trained, work_dir='other')
    apis.train(toy_config, work_dir='other', cfg_options={'load_from': trained})
    options = {'model.init_cfg': {'type': 'Pretrained', 'checkpoint': trained}}
    apis.train(toy_config, work_dir='other', cfg_options=options)
    assert not (tmp_path / 'payload').exists()
