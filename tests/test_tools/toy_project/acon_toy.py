"""A one-layer model on numbers, so that a run of the scripts takes a second."""

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset


@DATASETS.register_module()
class ToyDataset(Dataset):
    """Eight pairs of a number and its double."""

    def __init__(self, data_root='', ann_file='', data_prefix=None):
        self.paths = data_root, ann_file, data_prefix

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.full((1,), float(index)), torch.full((1,), 2.0 * index)


@MODELS.register_module()
class ToyModel(BaseModel):
    """A line through the pairs, with a norm that is synchronised on GPUs."""

    def __init__(self, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor, init_cfg)
        self.line = nn.Linear(1, 1)
        self.norm = nn.SyncBatchNorm(1)

    def forward(self, inputs, targets, mode='tensor'):
        outputs = self.norm(self.line(inputs))
        if mode == 'loss':
            return {'loss': (outputs - targets).square().mean()}
        return [{'output': output} for output in outputs]


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """How many samples were seen."""

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {'seen': len(results)}
