"""`compile` in a config compiles backbone and neck; what is trained stays what it is."""

import pytest
import torch

from acon_mm import apis, config_path
from acon_mm.apis.config import load_config
from acon_mm.checkpoints import load_from_local


@pytest.fixture
def trained(digit_scenes, tmp_path, monkeypatch):
    """Train a classifier for two iterations and return its checkpoint."""
    monkeypatch.chdir(tmp_path)

    def train(name, **options):
        torch._dynamo.reset()
        cfg = load_config(config_path('resnet18_metaacon_digits'))
        for split in ('train', 'val', 'test'):
            cfg[f'{split}_dataloader'].dataset.data_root = str(digit_scenes / 'imagenet')
        cfg.visualizer.name = name
        cfg.train_dataloader.batch_size = 20
        changed = {
            'train_cfg.max_epochs': 1,
            'default_hooks.checkpoint.interval': 1,
            # AdamW makes a step of ±lr where a gradient is next to nothing.
            'optim_wrapper.optimizer': {'type': 'SGD', 'lr': 0.1},
            'param_scheduler': None,
            **options,
        }
        apis.train(cfg, work_dir=tmp_path / name, cfg_options=changed)
        return load_from_local(tmp_path / name / 'epoch_1.pth')['state_dict']

    return train


@pytest.mark.slow
def test_captured_graphs_train_the_same_weights(trained):
    counted = torch._dynamo.utils.counters['stats']
    before = counted['calls_captured']
    compiled = trained('compiled', **{'compile.backend': 'eager'})
    assert counted['calls_captured'] > before
    eager = trained('eager')
    assert compiled.keys() == eager.keys()
    for key, tensor in eager.items():
        torch.testing.assert_close(compiled[key], tensor, rtol=1e-4, atol=1e-5, msg=key)
