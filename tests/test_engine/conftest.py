import contextlib
import copy
import itertools
import socket
import sys
from pathlib import Path

import pytest
import torch.distributed as dist
from mmengine.runner import Runner

RUNS = itertools.count()

sys.path.insert(0, str(Path(__file__).parents[1] / 'test_tools' / 'toy_project'))


@pytest.fixture
def one_process(monkeypatch):
    """Set what torchrun sets for a single process, and leave its group afterwards."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    environment = {
        'RANK': '0',
        'WORLD_SIZE': '1',
        'LOCAL_RANK': '0',
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Run the toy with all that is random, in this process and the folder of the test."""
    monkeypatch.chdir(tmp_path)
    # Asks compilers for their versions.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)

    def train(cfg, resume=False, hook=None):
        """Train; where a hook raises KeyboardInterrupt, the run ends as a killed one does."""
        cfg = copy.deepcopy(cfg)
        cfg.merge_from_dict({'resume': resume, 'experiment_name': f'toy_{next(RUNS)}'})
        with contextlib.suppress(KeyboardInterrupt):
            runner = Runner.from_cfg(cfg)
            if hook is not None:
                runner.register_hook(hook, priority='LOWEST')
            runner.train()
        return runner

    return train
