"""Counts of a training step and the times estimated from them equal closed forms."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.nn.modules._functions import SyncBatchNorm as SyncBatchNormFunction

from acon_mm import config_path
from acon_mm.analysis.random_batch import random_batch, training_size
from acon_mm.analysis.run_plan import Cluster, estimate_run
from acon_mm.analysis.saved_memory import saved_bytes
from acon_mm.analysis.training_step import Exchange, bucket_bytes, count_step
from acon_mm.errors import UserError
from acon_mm.models import MetaAcon


@MODELS.register_module(force=True)
class PlanToy(BaseModel):
    """Two convolutions with synchronised norms; the first convolution is frozen."""

    def __init__(self, data_preprocessor, unused=False):
        super().__init__(data_preprocessor)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 1, bias=False),
            nn.SyncBatchNorm(4),
            nn.Conv2d(4, 8, 3, padding=1, bias=False),
            nn.SyncBatchNorm(8),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 2),
        )
        self.layers[0].weight.requires_grad = False
        if unused:
            self.unused = nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {'loss': self.layers(inputs).square().mean()}


TOY = dict(
    default_scope='mmpretrain',
    model=dict(
        type='mmengine.PlanToy', data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor')
    ),
    train_dataloader=dict(
        batch_size=4,
        num_workers=2,
        dataset=dict(pipeline=[dict(type='mmcv.Resize', scale=(24, 16))]),
    ),
    optim_wrapper=dict(optimizer=dict(type='mmengine.SGD', lr=0.1)),
)
TRAINED_TENSORS = [4, 4, 4 * 8 * 9, 8, 8, 8 * 2, 2]
TRAINED = sum(TRAINED_TENSORS)
CLASSIFIER = config_path('classification/resnet18_metaacon_digits.py')


@pytest.fixture
def toy():
    return Config(deepcopy(TOY))


def sent(counts, purpose):
    """Return operation and bytes of the exchanges for a purpose."""
    return [(e.operation, e.nbytes) for e in counts.exchanges if e.purpose == purpose]


@pytest.mark.parametrize(
    ('optimizer', 'floats'),
    [
        (dict(type='mmengine.SGD', lr=0.1), 0),
        (dict(type='mmengine.SGD', lr=0.1, momentum=0.9), TRAINED),
        (dict(type='mmengine.AdamW', lr=0.1), 2 * TRAINED + len(TRAINED_TENSORS)),  # and the step
    ],
    ids=['sgd', 'momentum', 'adamw'],
)
def test_the_optimizer_state_is_a_multiple_of_what_is_trained(toy, optimizer, floats):
    toy.optim_wrapper.optimizer = optimizer
    assert count_step(toy).optimizer_state == 4 * floats


def test_gradients_take_the_bytes_of_what_is_trained(toy):
    counts = count_step(toy)
    assert counts.gradients == 4 * TRAINED
    assert sent(counts, 'gradients') == [('all_reduce', 4 * TRAINED)]
    # Two counters of batches are int64; the frozen convolution and the statistics are float32.
    assert counts.parameters == 4 * (TRAINED + 12 + 2 * 4 + 2 * 8) + 2 * 8


def test_memory_holds_the_gradients_twice(toy):
    counts = count_step(toy)
    parts = (counts.parameters, counts.optimizer_state, counts.saved)
    assert counts.memory == sum(parts) + 2 * 4 * TRAINED


def test_operations_are_two_for_each_multiply_accumulate(toy):
    counts = count_step(toy)
    assert counts.image_size == (16, 24)
    assert counts.forward_flops == 2 * (16 * 24 * (3 * 4 + 4 * 8 * 9) + 8 * 2)


def test_saved_bytes_counts_each_storage_once_and_no_parameter():
    net = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 7), nn.Sigmoid())
    x = torch.rand(2, 3)
    # Both layers save their inputs, both sigmoids their outputs, one of which is an input too.
    assert saved_bytes(lambda: net(x), net) == 4 * 2 * (3 + 5 + 7)
    assert saved_bytes(lambda: net(x).detach(), net) == 0


def test_what_is_saved_scales_with_the_batch():
    options = {'train_dataloader.batch_size': 8}
    few, all_of_them = (
        count_step(CLASSIFIER, (96, 96), images, options).saved for images in (2, 8)
    )
    # But for what norms save per channel.
    assert few == pytest.approx(all_of_them, rel=0.01)
    options['train_dataloader.batch_size'] = 16
    assert count_step(CLASSIFIER, (96, 96), 2, options).saved == 2 * few


def test_a_norm_without_a_gradient_of_its_input_exchanges_nothing_backward(toy):
    counts = count_step(toy)
    assert sent(counts, 'norms, forward') == [('all_gather', 4 * (2 * c + 1)) for c in (4, 8)]
    assert sent(counts, 'norms, backward') == [('all_reduce', 4 * 2 * 8)]
    assert not sent(counts, 'norms in Meta-ACON, forward')


def test_norms_exchange_what_the_function_of_torch_exchanges(monkeypatch):
    """``torch.nn.SyncBatchNorm`` runs on GPUs only, but its autograd function is Python.

    It runs here with stand-ins for the kernels, which compute nothing but have the right shapes,
    and for the collective operations, which are written down.
    """
    found = []

    def all_gather(outputs, tensor, group, async_op):
        found.append(('all_gather', tensor.nbytes))
        for output in outputs:
            output.copy_(tensor)

    def all_reduce(tensor, op, group, async_op):
        found.append(('all_reduce', tensor.nbytes))

    kernels = {
        'batch_norm_stats': lambda x, eps: (x.new_zeros(x.size(1)), x.new_ones(x.size(1))),
        'batch_norm_gather_stats_with_counts': lambda x, mean, *_: (mean[0], mean[0]),
        'batch_norm_elemt': lambda x, *_: x.clone(),
        'batch_norm_backward_reduce': lambda g, x, mean, *_: (mean, mean, mean, mean),
        'batch_norm_backward_elemt': lambda g, *_: g.clone(),
    }
    for name, kernel in kernels.items():
        monkeypatch.setattr(torch, name, kernel)
    monkeypatch.setattr(torch.distributed, 'all_gather', all_gather)
    monkeypatch.setattr(torch.distributed, 'all_reduce', all_reduce)
    group = SimpleNamespace(_get_backend_name=lambda: 'gloo')

    class OnCPU(nn.SyncBatchNorm):
        def forward(self, x):
            stats = self.running_mean, self.running_var, self.eps, self.momentum
            return SyncBatchNormFunction.apply(x, self.weight, self.bias, *stats, group, 2)

    config = Config.fromfile(config_path('segmentation/pspnet_r18_metaacon_digits.py'))
    config.model.data_preprocessor.size = (64, 64)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model).train()
        for module in model.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.__class__ = OnCPU
        batch = model.data_preprocessor(random_batch('mmseg', (64, 64), 2), training=True)
        model.parse_losses(model(**batch, mode='loss'))[0].backward()
        counts = count_step(config)

    expected = [(e.operation, e.nbytes) for e in counts.exchanges if 'norms' in e.purpose]
    assert sorted(found) == sorted(expected)
    # No head uses the last stage, so it does not run.
    metas = [m for m in model.modules() if isinstance(m, MetaAcon)]
    trained = [meta for meta in metas if meta.p1.grad is not None]
    assert len(sent(counts, 'norms in Meta-ACON, forward')) == 2 * len(trained) > 0
    assert len(sent(counts, 'norms in Meta-ACON, backward')) == 2 * len(trained)


@given(st.lists(st.integers(1, 100), min_size=1), st.lists(st.integers(4, 200), min_size=1))
def test_buckets_are_those_of_torch(numbers, limits):
    tensors = [torch.empty(number) for number in numbers]
    theirs, _ = torch.distributed._compute_bucket_assignment_by_size(
        tensors, limits, [], list(range(len(tensors)))
    )
    assert bucket_bytes([t.nbytes for t in tensors], limits) == [
        sum(tensors[i].nbytes for i in bucket) for bucket in theirs
    ]


def test_every_bucket_but_the_last_reaches_the_limit_of_the_config(toy):
    toy.model_wrapper_cfg = dict(type='MMDistributedDataParallel', bucket_cap_mb=600 / 2**20)
    # The order in which gradients are ready ends with the second convolution, of 1,152 bytes, and
    # the first norm; those of the linear layer and the second norm, 136 bytes, come before.
    buckets = [nbytes for _, nbytes in sent(count_step(toy), 'gradients')]
    assert buckets == [4 * (2 + 8 * 2 + 8 + 8 + 4 * 8 * 9), 4 * (4 + 4)]


def test_the_data_preprocessor_may_stand_beside_the_model(toy):
    expected = count_step(toy)
    toy.data_preprocessor = toy.model.pop('data_preprocessor')
    assert count_step(toy) == expected


@pytest.mark.parametrize(
    ('name', 'size', 'source'),
    [
        ('classification/resnet50_metaacon', (224, 224), 'RandomResizedCrop.scale'),
        ('detection/retinanet_r50_metaacon', (600, 1000), 'Resize.scale'),
        ('segmentation/pspnet_r50_metaacon', (512, 1024), 'data_preprocessor.size'),
    ],
)
def test_images_have_the_size_of_the_training_pipeline(name, size, source):
    assert training_size(Config.fromfile(config_path(f'{name}.py'))) == (size, source)


def test_a_crop_is_given_as_height_and_width(toy):
    crop = dict(type='mmseg.RandomCrop', crop_size=(16, 24))
    toy.train_dataloader.dataset.pipeline = [dict(type='mmcv.Resize', scale=(9, 9)), crop]
    assert training_size(toy) == ((16, 24), 'RandomCrop.crop_size')


SLOW_LINK = Cluster(
    node_bandwidth=2e-9, network_bandwidth=1e-9, node_latency=1e6, network_latency=1e7
)


@pytest.mark.parametrize(
    ('operation', 'gpus', 'seconds'),
    [
        # Latencies of 1 s and 10 s a message, 2 bytes and 1 byte per second; 8 GPUs per node.
        ('all_reduce', 1, 0),
        ('all_reduce', 2, 2 * 1 + 2 * (1 / 2) * 12 / 2),
        ('all_gather', 8, 3 * 1 + 7 * 12 / 2),
        ('all_reduce', 64, 2 * (3 * 1 + 3 * 10) + 2 * (63 / 64) * 12),
        ('broadcast', 64, 3 * 1 + 3 * 10 + 12),
    ],
)
def test_an_exchange_takes_latency_and_bandwidth(operation, gpus, seconds):
    exchange = Exchange(operation, 12, 'gradients')
    assert SLOW_LINK.seconds(exchange, gpus) == pytest.approx(seconds)


def test_one_gpu_is_fully_efficient_and_more_never_more_so(toy):
    counts = count_step(toy)
    estimates = [estimate_run(counts, gpus, Cluster()) for gpus in (1, 2, 8, 9, 64, 512)]
    assert estimates[0].efficiency == estimates[0].efficiency_without_overlap == 1
    for fewer, more in pairwise(estimates):
        assert more.efficiency < fewer.efficiency
    assert all(e.efficiency_without_overlap <= e.efficiency for e in estimates)


def test_a_measured_step_time_replaces_the_operations(toy):
    counts = count_step(toy)
    flops = 3 * counts.forward_flops * 4
    assert estimate_run(counts, 8, Cluster(tflops=2)).compute == pytest.approx(flops / 2e12)
    assert estimate_run(counts, 8, Cluster(step_time=0.5)).compute == 0.5


def test_the_loader_delivers_a_batch_per_step(toy):
    plan = estimate_run(count_step(toy), 16, Cluster(step_time=0.5))
    step = 0.5 / plan.efficiency
    assert plan.images_per_second_per_gpu == pytest.approx(4 / step)
    assert plan.images_per_second_per_worker == pytest.approx(4 / step / 2)
    assert plan.images_per_second == pytest.approx(16 * 4 / step)
    assert plan.loader_bytes_per_second == pytest.approx(8 * 4 / step * 3 * 16 * 24)


@pytest.mark.parametrize(
    ('step_time', 'exposed'),
    [
        (30.0, 4),  # during the backward pass of 20 s, all but the last bucket
        (6.0, 8),  # during the backward pass of 4 s, as much as it lasts
    ],
)
def test_gradients_are_exchanged_during_the_backward_pass(toy, step_time, exposed):
    # Half of each bucket goes to the other GPU and comes back: 4 s for 4 GB at 1 GB/s.
    cluster = Cluster(step_time=step_time, node_bandwidth=1, node_latency=0)
    buckets = (Exchange('all_reduce', 4 * 10**9, 'gradients'),) * 3
    plan = estimate_run(replace(count_step(toy), exchanges=buckets), 2, cluster)
    assert plan.gradients == pytest.approx(12)
    assert plan.efficiency == pytest.approx(step_time / (step_time + exposed))
    assert plan.efficiency_without_overlap == pytest.approx(step_time / (step_time + 12))


def test_every_gpu_waits_for_norms_and_buffers(toy):
    cluster = Cluster(step_time=1.0, node_bandwidth=1, node_latency=0)
    others = ('norms, forward', 'norms in Meta-ACON, backward', 'buffers', 'gradients')
    exchanges = tuple(Exchange('all_reduce', 10**9, purpose) for purpose in others)
    plan = estimate_run(replace(count_step(toy), exchanges=exchanges), 2, cluster)
    assert plan.norms == pytest.approx(2)
    assert plan.norms_in_meta_acon == pytest.approx(1)
    assert plan.efficiency == plan.efficiency_without_overlap == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'optim_wrapper': None}, 'has no optim_wrapper'),
        ({'optim_wrapper.type': 'mmengine.AmpOptimWrapper'}, 'AmpOptimWrapper'),
        ({'optim_wrapper.accumulative_counts': 2}, 'accumulative_counts=2'),
        ({'model_wrapper_cfg': dict(type='MMFullyShardedDataParallel')}, 'MMFullySharded'),
        ({'model.unused': True}, 'unused.weight first'),
        ({'train_dataloader.dataset.pipeline': []}, '--shape HEIGHT WIDTH'),
        ({'default_scope': 'mmocr'}, "default_scope='mmocr' is unknown"),
    ],
)
def test_what_is_not_covered_is_refused_in_a_sentence(toy, options, message):
    with pytest.raises(UserError, match=message) as error:
        count_step(toy, cfg_options=options)
    assert '\n' not in str(error.value)


def test_unused_parameters_are_exchanged_if_ddp_looks_for_them(toy):
    toy.model.unused = toy.find_unused_parameters = True
    counts = count_step(toy)
    assert sent(counts, 'gradients') == [('all_reduce', 4 * (TRAINED + 2))]
    assert sent(counts, 'used parameters') == [('all_reduce', 4 * (len(TRAINED_TENSORS) + 2))]
