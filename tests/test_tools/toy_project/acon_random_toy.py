"""A run with all that is random: order, augmentation by three generators, dropout; in memory."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

from acon_mm.models import AconC

FETCHES = Path('fetches')
"""Where a data set with ``count_fetches`` notes each sample that it loads."""


@DATASETS.register_module()
class RandomDataset(Dataset):
    """Numbers with noise of Python's, numpy's and torch's generator."""

    def __init__(self, length=12, count_fetches=False):
        self.metainfo = {'classes': ('a',)}
        self.length = length
        self.count_fetches = count_fetches

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if self.count_fetches:
            with FETCHES.open('a') as file:
                file.write(f'{index}\n')
        noise = random.random() + np.random.rand() + torch.rand(4)
        return noise + index, torch.tensor([float(index)])


@MODELS.register_module()
class RandomModel(BaseModel):
    """Two layers, a norm, ACON and dropout."""

    def __init__(self, width=8, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor, init_cfg)
        self.first = nn.Linear(4, width)
        self.norm = nn.BatchNorm1d(width)
        self.act = AconC(width)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(width, 1)

    def forward(self, inputs, targets, mode='tensor'):
        x = self.act(self.norm(self.first(inputs))[..., None, None])[..., 0, 0]
        outputs = self.last(self.drop(x))
        if mode == 'loss':
            return {'loss': (outputs - targets).square().mean()}
        return [{'output': output} for output in outputs]


@METRICS.register_module()
class MeanOutput(BaseMetric):
    """The mean of the outputs, and a number of the validation that always grows."""

    def process(self, data_batch, data_samples):
        self.results += [sample['output'].item() for sample in data_samples]

    def compute_metrics(self, results):
        return {'acc': float(np.mean(results))}


@HOOKS.register_module()
class Die(Hook):
    """Kill a process of the first attempt behind an iteration."""

    def __init__(self, rank, iteration):
        self.place = rank, iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        is_first = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') == '0'
        if is_first and (runner.rank, runner.iter) == self.place:
            os.kill(os.getpid(), signal.SIGKILL)


def random_config(work_dir, *, by_epoch=True, workers=0, **changes):
    """Return the config of a run of 4 epochs of 4 batches, or of 16 iterations."""
    loader = {
        'dataset': {'type': 'RandomDataset'},
        'sampler': {'type': 'DefaultSampler' if by_epoch else 'InfiniteSampler', 'shuffle': True},
        'batch_size': 3,
        'num_workers': workers,
        'collate_fn': {'type': 'default_collate'},
    }
    val = {**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}, 'num_workers': 0}
    if by_epoch:
        train_cfg = {'type': 'acon_mm.EpochBasedTrainLoop', 'max_epochs': 4, 'val_interval': 2}
        hook = {'interval': 1}
    else:
        train_cfg = {'type': 'acon_mm.IterBasedTrainLoop', 'max_iters': 16, 'val_interval': 6}
        hook = {'interval': 4, 'by_epoch': False}
    cfg = Config(
        {
            'default_scope': 'mmengine',
            'work_dir': str(work_dir),
            'model': {'type': 'RandomModel'},
            'train_dataloader': loader,
            'val_dataloader': val,
            'train_cfg': train_cfg,
            'val_cfg': {},
            'val_evaluator': {'type': 'MeanOutput'},
            'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}},
            'param_scheduler': [{'type': 'ExponentialLR', 'gamma': 0.9, 'by_epoch': by_epoch}],
            'default_hooks': {
                'checkpoint': {'type': 'acon_mm.AtomicCheckpointHook', 'max_keep_ckpts': 1, **hook}
            },
            'randomness': {'seed': 1},
            'log_level': 'ERROR',
        }
    )
    cfg.merge_from_dict(changes)
    return cfg
