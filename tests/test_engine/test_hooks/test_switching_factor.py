import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from acon_random_toy import RandomModel, random_config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.visualization import LocalVisBackend
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from acon_mm.engine.hooks.switching_factor import SwitchingFactorHook, _add_histograms
from acon_mm.models import MetaAcon

WIDTH = 8
BATCH = 3
BACKENDS = [{'type': 'LocalVisBackend'}, {'type': 'TensorboardVisBackend'}]


@MODELS.register_module()
class TwoActivations(RandomModel):
    """A Meta-ACON, then the ACON-C of the toy."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = nn.Sequential(self.first, nn.Unflatten(1, (WIDTH, 1, 1)))
        self.norm = nn.Sequential(nn.BatchNorm2d(WIDTH), MetaAcon(WIDTH), nn.Flatten())


def config(work_dir, model='TwoActivations'):
    cfg = random_config(work_dir, model={'type': model})
    cfg.custom_hooks = [{'type': 'acon_mm.SwitchingFactorHook', 'interval': 4}]
    cfg.visualizer = {'type': 'Visualizer', 'vis_backends': BACKENDS}
    return cfg


class Note(Hook):
    """Note the parameters before each step."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append({k: v.mean().item() for k, v in runner.model.named_parameters()})


@pytest.fixture
def trained(toy, tmp_path):
    """The parameters before each of 16 steps, and the folder that the backends wrote to."""
    note = Note()
    toy(config(tmp_path), hook=note).visualizer.close()
    return note.seen, next(tmp_path.glob('*/vis_data'))


def test_the_event_file_has_means_and_histograms_of_each_layer(trained):
    seen, folder = trained
    events = EventAccumulator(str(folder), {'histograms': 0}).Reload()
    for name in ('norm.1', 'act'):
        for kind in ('beta', 'p1', 'p2'):
            means = events.Scalars(f'{kind}_mean/{name}')
            histograms = events.Histograms(f'{kind}/{name}')
            assert [e.step for e in means] == [e.step for e in histograms] == [4, 8, 12, 16]
            from_input = (kind, name) == ('beta', 'norm.1')
            for mean, histogram in zip(means, histograms, strict=True):
                found = histogram.histogram_value
                assert found.num == sum(found.bucket) == WIDTH * (BATCH if from_input else 1)
                assert found.sum / found.num == pytest.approx(mean.value, rel=1e-5, abs=1e-7)
                if from_input:
                    assert 0 < found.min < found.max < 1
                else:
                    expected = seen[mean.step - 1][f'{name}.{kind}']
                    assert mean.value == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_the_local_backend_has_a_line_for_each_look(trained):
    _, folder = trained
    text = (folder / 'switching_factors.json').read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line.pop('step') for line in lines] == [4, 8, 12, 16]
    for line in lines:
        assert sum(line['beta/norm.1']['counts']) == BATCH * WIDTH
        assert all(len(v['edges']) == len(v['counts']) + 1 for v in line.values())
    scalars = [json.loads(line) for line in (folder / 'scalars.json').read_text().splitlines()]
    assert sum('beta_mean/act' in line for line in scalars) == 4


def test_a_training_that_is_looked_at_ends_with_the_same_weights(toy, tmp_path, separate_norms):
    states = []
    for hooks in ([], [{'type': 'acon_mm.SwitchingFactorHook', 'interval': 3}]):
        cfg = config(tmp_path / str(len(hooks)))
        cfg.custom_hooks = hooks
        runner = toy(cfg)
        assert not any(m._forward_hooks for m in runner.model.norm.modules())
        states.append(runner.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=0, msg=name)


class WandbVisBackend(LocalVisBackend):
    """Stand in for that of mmengine: `experiment` is the module wandb."""

    _commit = True
    experiment = None


class MLflowVisBackend(LocalVisBackend):
    """Stand in for that of mmengine: `experiment` is the module mlflow."""

    experiment = None


def test_wandb_and_mlflow_get_what_they_draw(tmp_path):
    values = {'beta/act': np.array([0.0, 0.0, 1.0])}
    logged = []
    wandb = WandbVisBackend(str(tmp_path))
    wandb.experiment = SimpleNamespace(
        Histogram=lambda np_histogram: np_histogram,
        log=lambda data, commit: logged.append((data, commit)),
    )
    _add_histograms(wandb, values, 7)
    ((data, commit),) = logged
    assert commit
    counts, edges = data['beta/act']
    assert (counts[0], counts[-1], counts.sum(), edges[0], edges[-1]) == (2, 1, 3, 0, 1)

    artifacts = {}
    mlflow = MLflowVisBackend(str(tmp_path))
    mlflow.experiment = SimpleNamespace(log_dict=lambda data, file: artifacts.update({file: data}))
    _add_histograms(mlflow, values, 7)
    assert sum(artifacts['switching_factors/7.json']['beta/act']['counts']) == 3


def test_a_model_without_switching_factors_is_told_of(toy, tmp_path):
    warnings = []
    runner = SimpleNamespace(
        model=nn.ReLU(), logger=SimpleNamespace(warning=warnings.append), iter=199
    )
    hook = SwitchingFactorHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    hook.after_train_iter(runner, 0)
    assert 'logs nothing' in warnings[0]
