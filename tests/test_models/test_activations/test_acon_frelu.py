import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from acon_mm.models import AconFReLU, build_activation
from acon_mm.ops import smooth_maximum


def randomise(module):
    for p in module.parameters():
        nn.init.normal_(p)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return module


def batch_norm(x, bn):
    mean, var, weight, bias = (
        v.view(1, -1, 1, 1) for v in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
    )
    return (x - mean) / (var + bn.eps).sqrt() * weight + bias


@pytest.mark.parametrize('size', [(6, 6), (7, 5), (1, 1)])
@pytest.mark.parametrize('stride', [1, 2])
def test_it_is_the_smooth_maximum_of_the_input_and_its_neighbourhood(stride, size):
    torch.manual_seed(0)
    act = randomise(AconFReLU(5, stride=stride)).eval()
    x = 3 * torch.randn(2, 5, *size) - 2  # mostly negative: zero padding of the pool would show
    x1 = F.max_pool2d(x, 3, 2, padding=1) if stride == 2 else x
    x2 = F.conv2d(x, act.conv_frelu.weight, None, stride, padding=1, groups=5)
    expected = batch_norm(smooth_maximum([x1, batch_norm(x2, act.bn1)], 1.0), act.bn2)
    torch.testing.assert_close(act(x), expected, rtol=1e-4, atol=1e-5)


def test_its_state_is_that_of_the_authors_without_the_bias_of_the_convolution():
    norm = ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    expected = ['conv_frelu.weight', *(f'bn{i}.{name}' for i in (1, 2) for name in norm)]
    for stride in (1, 2):
        assert list(AconFReLU(5, stride=stride).state_dict()) == expected


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('stride', [1, 2])
def test_the_gradients_are_those_of_finite_differences(stride, training):
    torch.manual_seed(0)
    act = randomise(AconFReLU(2, stride=stride)).double().train(training)
    names, values = zip(*act.named_parameters(), strict=True)
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *values: functional_call(act, dict(zip(names, values, strict=True)), (x,)),
        (x, *values),
    )


@pytest.mark.parametrize('stride', [1, 2])
def test_channels_last_gives_the_same_values_and_stays_channels_last(stride):
    act = randomise(AconFReLU(6, stride=stride)).eval()
    x = torch.randn(4, 6, 6, 5)
    out = act(x.to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, act(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize('stride', [1, 2])
def test_the_output_has_the_dtype_of_the_input(stride, dtype):
    act = AconFReLU(6, stride=stride).to(dtype)
    assert act(torch.randn(4, 6, 5, 5, dtype=dtype)).dtype == dtype


def test_autocast_keeps_the_dtype_of_the_input_and_rounds_only_the_result():
    torch.manual_seed(0)
    act = AconFReLU(6).eval()
    x = torch.randn(4, 6, 5, 5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert act(x).dtype == torch.float32
        half = act(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), act(x), atol=0.03, rtol=0.03)


def test_inplace_is_accepted_and_ignored():
    x = torch.randn(2, 6, 5, 5)
    kept = x.clone()
    AconFReLU(6, inplace=True)(x)
    assert torch.equal(x, kept)


def test_a_block_builds_it_with_its_width_and_the_norm_of_its_config():
    cfg = dict(type='acon_mm.AconFReLU', stride=2, norm_cfg=dict(type='GN', num_groups=2))
    act = build_activation(cfg, 6)
    assert isinstance(act.bn1, nn.GroupNorm)
    assert isinstance(act.bn2, nn.GroupNorm)
    assert act(torch.randn(2, 6, 5, 5)).shape == (2, 6, 3, 3)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(num_channels=0), 'num_channels must be a positive integer, but it is 0'),
        (dict(num_channels=4, stride=3), r'stride must be one of \(1, 2\), but it is 3'),
    ],
)
def test_a_bad_argument_is_refused_with_the_accepted_values(args, message):
    with pytest.raises(ValueError, match=message):
        AconFReLU(**args)
