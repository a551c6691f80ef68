"""A published file gives the same network and holds nothing of the training."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch

from acon_mm.apis import get_model
from acon_mm.apis.publishing import publish_model
from acon_mm.errors import UserError

NAME = 'shufflenetv2_0.5x_metaacon'


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint as a run saves it, with a moving average."""
    state = get_model(NAME).state_dict()
    path = tmp_path / 'epoch_1.pth'
    torch.save(
        {
            'meta': {'epoch': 1, 'dataset_meta': {'classes': ('a', 'b')}, 'hostname': 'secret'},
            'state_dict': state,
            'ema_state_dict': {f'module.{k}': v + 1 for k, v in state.items()} | {'steps': 3},
            'optimizer': {'state': {0: {'exp_avg': torch.zeros(1000)}}, 'param_groups': []},
            'param_schedulers': [{}],
            'message_hub': {},
        },
        path,
    )
    return path


def test_the_weights_stay_and_the_training_goes(checkpoint, tmp_path):
    source = torch.load(checkpoint)['state_dict']
    (path,) = publish_model(checkpoint, tmp_path / 'net.pth')
    published = torch.load(path, weights_only=True)
    assert set(published) == {'meta', 'state_dict'}
    assert 'hostname' not in published['meta']
    model = get_model(NAME, path)
    assert model.dataset_meta['classes'] == ('a', 'b')
    for name, value in model.state_dict().items():
        assert torch.equal(value, source[name])


def test_the_name_has_the_hash_of_the_file_and_the_meta_that_of_the_weights(checkpoint, tmp_path):
    (path,) = publish_model(checkpoint, tmp_path / 'net.pth')
    assert path.name == f'net-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth'
    (again,) = publish_model(path, tmp_path / 'again.pth')
    (other,) = publish_model(checkpoint, tmp_path / 'other.pth', no_ema=True)
    hashes = [torch.load(p)['meta']['sha256'] for p in (path, again, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_without_the_moving_average_the_trained_weights_are_taken(checkpoint, tmp_path):
    (path,) = publish_model(checkpoint, tmp_path / 'net.pth', no_ema=True)
    source, state = torch.load(checkpoint)['state_dict'], torch.load(path)['state_dict']
    for name, value in state.items():
        assert torch.equal(value, source[name] + 1)
    with pytest.raises(UserError, match='has no ema_state_dict'):
        publish_model(path, tmp_path / 'again.pth', no_ema=True)


def test_safetensors_hold_the_same(checkpoint, tmp_path):
    safetensors = pytest.importorskip('safetensors')
    path, other = publish_model(checkpoint, tmp_path / 'net.pth', safetensors=True)
    published = torch.load(path)
    with safetensors.safe_open(other, 'pt') as file:
        assert set(file.keys()) == set(published['state_dict'])
        for name, value in published['state_dict'].items():
            assert torch.equal(file.get_tensor(name), value)
        assert file.metadata()['sha256'] == published['meta']['sha256']
        assert json.loads(file.metadata()['dataset_meta']) == {'classes': ['a', 'b']}


def test_the_tool_prints_the_file_or_one_line(repo_root, checkpoint, tmp_path):
    def run(*arguments):
        command = [sys.executable, 'tools/model_converters/publish_model.py', *arguments]
        return subprocess.run(command, cwd=repo_root, capture_output=True, text=True)

    good, bad = run(checkpoint, tmp_path / 'net.pth'), run(checkpoint, tmp_path / 'net.onnx')
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith(f'{tmp_path}/net-')
    assert bad.returncode == 1
    assert bad.stderr.splitlines()[-1].startswith('error: out_file=')
