"""Every way by which a run reads a checkpoint refuses a pickle that calls something."""

import os

import pytest
import torch

from acon_mm import apis
from acon_mm.errors import CheckpointRefusedError


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@pytest.fixture
def payload(toy_config, tmp_path):
    """Write ``bad.pth``, which makes the file returned here when it is unpickled."""
    payload = tmp_path / 'payload'
    torch.save({'state_dict': {}, 'meta': {'epoch': 0}, 'x': Payload(payload)}, 'bad.pth')
    return payload


@pytest.mark.parametrize(
    ('script', 'arguments'), [('test.py', ['bad.pth']), ('train.py', ['--resume', 'bad.pth'])]
)
def test_the_scripts_refuse_it_in_one_line(run_here, toy_config, payload, script, arguments):
    run = run_here(script, toy_config, *arguments)
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("error: checkpoint 'bad.pth' is refused")
    assert 'posix.system' in last
    assert 'Traceback' not in run.stderr
    assert not payload.exists()


@pytest.mark.parametrize(
    'options',
    [
        {'load_from': 'bad.pth'},
        {'model.init_cfg': {'type': 'Pretrained', 'checkpoint': 'bad.pth'}},
        {'model.init_cfg': {'type': 'Pretrained', 'checkpoint': 'bad.pth', 'prefix': 'a'}},
    ],
    ids=['load_from', 'init_cfg', 'init_cfg_with_prefix'],
)
def test_a_start_from_it_is_refused(toy_config, payload, options):
    with pytest.raises(CheckpointRefusedError, match=r'posix\.system'):
        apis.train(toy_config, cfg_options=options)
    assert not payload.exists()
