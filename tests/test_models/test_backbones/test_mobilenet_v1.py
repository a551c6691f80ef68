import pytest
import torch
from torch import nn
from torch.nn import functional as F

from acon_mm.models import AconMobileNetV1, MetaAcon

RELU = dict(type='ReLU')
META = dict(type='acon_mm.MetaAcon')


def randomise_norms(net):
    generator = torch.Generator().manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for value in (m.weight.data, m.bias.data, m.running_mean):
                value.normal_(generator=generator)
            m.running_var.uniform_(0.5, 2, generator=generator)
    return net


def test_with_relu_it_is_the_network_of_the_mobilenet_paper():
    """Table 1 of arXiv:1704.04861 as functional calls (but for its last stride, a misprint)."""
    net = randomise_norms(AconMobileNetV1(0.25, act_cfg=RELU, out_indices=(0, 1, 2, 3, 4))).eval()
    weights = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    layers = [(3, 8, 3, 2, 1)]
    widths = [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    for width, out, stride in zip(widths, widths[1:], strides, strict=False):
        layers += [(width, width, 3, stride, width), (width, out, 1, 1, 1)]
    x = torch.rand(2, 3, 64, 64)
    outs, y = net(x), x
    seen = []
    for (in_channels, out_channels, size, stride, groups), weight, norm in zip(
        layers, weights, norms, strict=True
    ):
        assert weight.shape == (out_channels, in_channels // groups, size, size)
        y = F.conv2d(y, weight, None, stride, size // 2, 1, groups)
        y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
        seen.append(y)
    for out, reference in zip(outs, [seen[i] for i in (2, 6, 10, 22, 26)], strict=True):
        torch.testing.assert_close(out, reference)


@pytest.mark.parametrize(
    ('widen_factor', 'act_cfg', 'params', 'flops'),
    [
        (0.25, RELU, 0.5, 41),
        (0.25, META, 0.6, 41),
        (0.75, RELU, 2.6, 325),
        (0.75, META, 3.1, 326),
    ],
)
def test_parameters_and_multiply_accumulates_are_those_of_table_2(
    widen_factor, act_cfg, params, flops
):
    net = AconMobileNetV1(widen_factor, act_cfg=act_cfg).eval()
    total = []

    def count(conv, _, out):
        total.append(conv.weight.numel() * out[0, 0].numel())

    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            m.register_forward_hook(count)
    with torch.no_grad():
        channels = net(torch.zeros(1, 3, 224, 224))[-1].shape[1]
    measured = (sum(p.numel() for p in net.parameters()) + 1001 * channels) / 1e6
    assert round(measured, 1) == params
    assert abs((sum(total) + 1000 * channels) / 1e6 / flops - 1) < 0.01


@pytest.mark.parametrize(
    ('placement', 'replaced'),
    [('all', {'activate', '0.activate', '1.activate'}), ('one', {'0.activate'})],
)
def test_the_placement_says_which_activations_are_replaced(placement, replaced):
    net = AconMobileNetV1(0.25, act_cfg=META, placement=placement)
    names = [name for name, m in net.named_modules() if isinstance(m, MetaAcon)]
    assert {name.split('.', 1)[1].split('.', 1)[-1] for name in names} == replaced
    assert len(names) == (27 if placement == 'all' else 13)
    assert sum(isinstance(m, nn.ReLU) for m in net.modules()) == 27 - len(names)


def test_channels_are_multiples_of_eight_at_any_width():
    net = AconMobileNetV1(0.33, act_cfg=RELU, out_indices=(0, 1, 2, 3, 4))
    shapes = [tuple(out.shape[1:]) for out in net(torch.rand(2, 3, 64, 64))]
    assert shapes == [(24, 32, 32), (40, 16, 16), (88, 8, 8), (168, 4, 4), (336, 2, 2)]


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(widen_factor=0), 'widen_factor must be a positive number, such as 0.25, but it is'),
        (dict(widen_factor='1'), "such as 0.25, but it is '1'"),
        (dict(placement='two'), "placement must be one of 'one', 'all', but it is 'two'"),
        (dict(out_indices=(5,)), 'out_indices must be one of 0, 1, 2, 3, 4, but it is 5'),
        (dict(frozen_stages=6), 'frozen_stages must be one of -1, 0, 1, 2, 3, 4, 5, but it is 6'),
        (dict(act_cfg=dict(type='Acon')), "'Acon', which is not registered: use one of acon_mm"),
    ],
)
def test_a_bad_argument_is_refused_with_the_accepted_values(args, message):
    with pytest.raises(ValueError, match=message):
        AconMobileNetV1(**args)
