import copy
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from acon_mm.models import MetaAcon
from acon_mm.models.activations import meta_acon
from acon_mm.ops import smooth_maximum


def randomise(module):
    for p in module.parameters():
        nn.init.normal_(p)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return module


def two_lines(act, x):
    return [x * p.view(1, -1, 1, 1) for p in (act.p1, act.p2)]


def batch_norm(x, bn):
    return (x - bn.running_mean) / (bn.running_var + bn.eps).sqrt() * bn.weight + bn.bias


def test_the_channel_wise_switching_factor_is_that_of_the_authors():
    act = randomise(MetaAcon(40)).eval()
    x = torch.randn(3, 40, 6, 5)
    hidden = x.mean(2).mean(2) @ act.fc1.weight[:, :, 0, 0].T + act.fc1.bias
    hidden = batch_norm(hidden, act.bn1) @ act.fc2.weight[:, :, 0, 0].T + act.fc2.bias
    beta = torch.sigmoid(batch_norm(hidden, act.bn2))
    expected = smooth_maximum(two_lines(act, x), beta[:, :, None, None])
    torch.testing.assert_close(act(x), expected, atol=1e-4, rtol=1e-4)


def test_the_depth_wise_switching_factor_mixes_no_channels():
    act = randomise(MetaAcon(40, depthwise=True)).eval()
    assert act.fc1.weight.shape == act.fc2.weight.shape == (40, 1, 1, 1)
    x = torch.randn(3, 40, 6, 5)
    hidden = batch_norm(x.mean((2, 3)) * act.fc1.weight.flatten() + act.fc1.bias, act.bn1)
    hidden = batch_norm(hidden * act.fc2.weight.flatten() + act.fc2.bias, act.bn2)
    torch.testing.assert_close(act.switching_factor(x), torch.sigmoid(hidden))


def test_the_layer_wise_switching_factor_is_one_number_a_sample():
    act = MetaAcon(40, manner='layer_wise')
    x = torch.randn(3, 40, 6, 5)
    beta = torch.sigmoid(x.mean((2, 3)).sum(1))
    expected = smooth_maximum(two_lines(act, x), beta.view(3, 1, 1, 1))
    torch.testing.assert_close(act(x), expected)
    assert [name for name, _ in act.named_parameters()] == ['p1', 'p2']


def test_the_pixel_wise_switching_factor_is_the_sigmoid_of_each_element():
    act = MetaAcon(40, manner='pixel_wise')
    x = torch.randn(3, 40, 6, 5)
    expected = smooth_maximum(two_lines(act, x), torch.sigmoid(x))
    torch.testing.assert_close(act(x), expected)
    assert [name for name, _ in act.named_parameters()] == ['p1', 'p2']


@pytest.mark.parametrize(
    ('channels', 'reduction', 'hidden'), [(512, 16, 32), (64, 16, 16), (24, 8, 8), (256, 8, 32)]
)
def test_the_hidden_width_is_the_larger_of_r_and_c_over_r(channels, reduction, hidden):
    assert MetaAcon(channels, reduction=reduction).fc1.out_channels == hidden


def test_the_norm_is_an_argument():
    assert isinstance(MetaAcon(8, norm_cfg=dict(type='SyncBN')).bn1, nn.SyncBatchNorm)
    bare = randomise(MetaAcon(8, norm_cfg=None))
    assert not [name for name in bare.state_dict() if 'bn' in name]
    x = torch.randn(3, 8, 6, 5)
    hidden = F.conv2d(x.mean((2, 3), keepdim=True), bare.fc1.weight, bare.fc1.bias)
    beta = torch.sigmoid(F.conv2d(hidden, bare.fc2.weight, bare.fc2.bias)).flatten(1)
    torch.testing.assert_close(bare.switching_factor(x), beta)


@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
def test_a_single_sample_trains_on_running_statistics_and_leaves_them(norm):
    act = randomise(MetaAcon(8, norm_cfg=dict(type=norm))).train()
    before = {name: value.clone() for name, value in act.state_dict().items()}
    x = torch.randn(1, 8, 4, 4)
    out = act(x)
    out.sum().backward()
    assert act.fc1.weight.grad.any()
    assert all(torch.equal(value, before[name]) for name, value in act.state_dict().items())
    torch.testing.assert_close(out, act.eval()(x))


def bypasses(act, x):
    """Whether the activation computes its switching factor without calling its modules."""
    called = []
    hidden = act.switching_factor
    act.switching_factor = lambda x: called.append(1) or hidden(x)
    act(x)
    del act.switching_factor
    return not called


needs_cpu_kernel = pytest.mark.skipif(
    not bypasses(MetaAcon(4).eval(), torch.ones(2, 4, 2, 2)),
    reason='the CPU kernel is not active, see acon_mm.ops.backend_report()',
)


@needs_cpu_kernel
@pytest.mark.parametrize('training', [True, False])
def test_synchronised_norms_and_reverted_ones_are_computed_by_the_fused_function(training):
    torch.manual_seed(0)
    synced = randomise(MetaAcon(8, norm_cfg=dict(type='SyncBN'))).train(training)
    x = torch.randn(4, 8, 5, 5)
    reverted = revert_sync_batchnorm(copy.deepcopy(synced)).train(training)
    assert not isinstance(reverted.bn1, nn.BatchNorm2d)
    assert bypasses(copy.deepcopy(synced), x)
    assert bypasses(copy.deepcopy(reverted), x)
    called, results = copy.deepcopy(synced), []
    called.bn1.register_forward_hook(lambda *_: None)
    for act in (reverted, synced, called):
        y = act(x)
        grads = torch.autograd.grad(y.square().sum(), list(act.parameters()))
        results.append([y, *grads, *act.state_dict().values()])
    for found, also, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(also, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'norm',
    [
        nn.GroupNorm(2, 8),
        nn.Identity(),
        nn.BatchNorm2d(8, affine=False),
        nn.BatchNorm2d(8, momentum=None),
        nn.BatchNorm2d(8, track_running_stats=False),
        type('Halved', (nn.BatchNorm2d,), {'forward': lambda self, x: x / 2})(8),
    ],
    ids=lambda norm: type(norm).__name__,
)
@pytest.mark.parametrize('name', ['bn1', 'bn2'])
def test_norms_that_compute_anything_else_are_called(name, norm):
    act = MetaAcon(8, reduction=8)
    setattr(act, name, copy.deepcopy(norm))
    assert not bypasses(act, torch.randn(4, 8, 5, 5))


def test_two_samples_train_on_their_own_statistics():
    act = randomise(MetaAcon(8)).train()
    before = act.bn1.running_mean.clone()
    act(torch.randn(2, 8, 4, 4))
    assert not torch.equal(act.bn1.running_mean, before)


def test_the_fall_back_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(meta_acon, '_warned_of_single_samples', False)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)  # MMLogger does not propagate to the root logger
    try:
        for _ in range(3):
            MetaAcon(8).train()(torch.randn(1, 8, 4, 4))
    finally:
        logger.removeHandler(caplog.handler)
    said = [r for r in caplog.records if 'running statistics' in r.getMessage()]
    assert [r.levelno for r in said] == [logging.WARNING]


def test_another_number_of_channels_is_refused_and_counts_as_no_batch():
    act = MetaAcon(8)
    for shape in ((2, 4, 3, 3), (8,)):
        with pytest.raises(ValueError, match=rf'\(N, 8, ...\), .*num_channels=8.*\({shape[0]}, ?'):
            act(torch.randn(shape))
    assert act.bn1.num_batches_tracked == 0


@pytest.mark.parametrize('training', [True, False])
def test_slopes_may_be_of_another_dtype_than_the_layers(training):
    torch.manual_seed(0)
    act, x = MetaAcon(4).train(training), torch.randn(3, 4, 5, 5)
    expected = act(x)
    act.p1.data, act.p2.data = act.p1.data.double(), act.p2.data.double()
    torch.testing.assert_close(act(x), expected)


def test_pruned_layers_train_and_stay_pruned():
    act, x = MetaAcon(8), torch.randn(4, 8, 5, 5)
    prune.l1_unstructured(act.fc1, 'weight', 0.5)
    optimizer = torch.optim.SGD(act.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        act(x).square().sum().backward()
        optimizer.step()
    act(x)
    torch.testing.assert_close(act.fc1.weight, act.fc1.weight_orig * act.fc1.weight_mask)
    assert (act.fc1.weight == 0).sum() == act.fc1.weight.numel() // 2


@pytest.mark.parametrize('manner', ['channel_wise', 'layer_wise'])
def test_autocast_does_not_narrow_the_switching_factor(manner):
    act = randomise(MetaAcon(40, manner=manner)).train()
    x = torch.randn(3, 40, 6, 5).bfloat16()
    expected = act.switching_factor(x)
    with torch.autocast('cpu', torch.bfloat16):
        beta, out = act.switching_factor(x), act(x)
    assert beta.dtype == torch.float32
    assert out.dtype == x.dtype
    torch.testing.assert_close(beta, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_a_module_of_half_precision_maps_its_own_dtype_to_itself(dtype):
    act = MetaAcon(8).to(dtype)
    try:
        act.fc1(torch.randn(2, 8, 1, 1, dtype=dtype))
    except RuntimeError as error:  # torch 2.1
        pytest.skip(f'this torch has no convolution of that dtype on the CPU: {error}')
    assert act(torch.randn(2, 8, 4, 4, dtype=dtype)).dtype == dtype


def test_a_device_without_autocast_is_accepted():
    x = torch.empty(2, 8, 4, 4, device='meta')
    assert MetaAcon(8).to('meta')(x).shape == x.shape


def test_a_large_half_precision_map_is_averaged_in_float32():
    act = MetaAcon(4, manner='layer_wise')
    x = torch.full((1, 4, 200, 304), 0.1, dtype=torch.float16)
    mean = x[0, 0, 0, 0].double()
    expected = torch.sigmoid(4 * mean).float().view(1, 1)
    torch.testing.assert_close(act.switching_factor(x), expected)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(manner='row_wise'), "manner must be one of .*'channel_wise'.*'row_wise'"),
        (
            dict(norm_cfg=dict(type='Foo')),
            "norm_cfg must be .*dict\\(type='BN'\\), or None.*'Foo'",
        ),
        (dict(norm_cfg={}), r'norm_cfg must be the config of a norm, .*but it is {}'),
        (dict(norm_cfg='BN'), "norm_cfg must be the config of a norm, .*but it is 'BN'"),
        (dict(norm_cfg=dict(type='BN', track_running_stats=False)), 'norm_cfg .*running statist'),
        (
            dict(manner='pixel_wise', depthwise=True),
            "depthwise must be False unless .*'pixel_wise'",
        ),
        (dict(reduction=0), 'reduction must be a positive integer, but it is 0'),
    ],
)
def test_a_bad_argument_is_refused_with_the_accepted_ones(args, message):
    with pytest.raises(ValueError, match=message):
        MetaAcon(8, **args)
