"""A job whose process dies goes on by itself and ends with the weights of one that ran through."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent / 'toy_project'))
from acon_random_toy import random_config

from acon_mm.checkpoints import load_from_local


def config(folder, **changes):
    folder.mkdir()
    cfg = random_config(
        folder / 'run',
        workers=2,
        **{
            'custom_imports': {'imports': ['acon_random_toy']},
            'train_dataloader.dataset.length': 24,
            'log_level': 'INFO',
            **changes,
        },
    )
    cfg.dump(folder / 'config.py')
    return folder / 'config.py'


def weights(path):
    return load_from_local(path.parent / 'run/epoch_4.pth')['state_dict']


def test_a_process_that_is_killed_restarts_the_job(run_tool, tmp_path):
    whole = config(tmp_path / 'whole')
    dying = config(tmp_path / 'dying', custom_hooks=[{'type': 'Die', 'rank': 1, 'iteration': 9}])
    for path in (whole, dying):
        run = run_tool('dist_train.sh', path, 2)
        assert run.returncode == 0, run.stderr[-3000:]
        log = run.stdout + run.stderr
        assert ('resumed epoch: 2, iter: 8' in log) == (path == dying)
    torch.testing.assert_close(weights(whole), weights(dying), rtol=0, atol=0)
