import pytest
import torch
from mmpretrain.models import MobileNetV2
from torch import nn

from acon_mm.models import AconMobileNetV2, MetaAcon

RELU = dict(type='ReLU')
RELU6 = dict(type='ReLU6')
META = dict(type='acon_mm.MetaAcon')
META8 = dict(META, reduction=8)


def randomise_norms(net):
    generator = torch.Generator().manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for value in (m.weight.data, m.bias.data, m.running_mean):
                value.normal_(generator=generator)
            m.running_var.uniform_(0.5, 2, generator=generator)
    return net


@pytest.mark.usefixtures('separate_norms')
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    ('act_cfg', 'args'),
    [
        (RELU6, dict(widen_factor=1.0)),
        (RELU, dict(widen_factor=0.17)),
        (RELU6, dict(widen_factor=0.6, norm_eval=True)),
        (RELU6, dict(widen_factor=1.4)),
    ],
    ids=str,
)
def test_with_a_plain_activation_it_is_the_network_of_mmpretrain_bit_for_bit(
    act_cfg, args, training
):
    args = dict(args, act_cfg=act_cfg, out_indices=tuple(range(8)))
    theirs = randomise_norms(MobileNetV2(**args))
    ours = AconMobileNetV2(**args)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    ours.train(training)
    theirs.train(training)
    x = torch.rand(2, 3, 64, 64)
    outs, references = ours(x), theirs(x)
    assert all(torch.equal(a, b) for a, b in zip(outs, references, strict=True))
    if training:
        sum(out.sum() for out in outs).backward()
        sum(out.sum() for out in references).backward()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad), name
    # The running statistics moved by the same amount, too.
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


def measure(net):
    """Return the millions of parameters and of multiply-accumulates with 1000 classes."""
    total = []

    def count(conv, _, out):
        total.append(conv.weight.numel() * out[0, 0].numel())

    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            m.register_forward_hook(count)
    with torch.no_grad():
        channels = net.eval()(torch.zeros(1, 3, 224, 224))[-1].shape[1]
    params = sum(p.numel() for p in net.parameters()) + 1001 * channels
    return params / 1e6, (sum(total) + 1000 * channels) / 1e6


@pytest.mark.parametrize(
    ('widen_factor', 'act_cfg', 'params', 'flops'),
    [
        (0.17, RELU6, 1.4, 42),
        (0.17, META8, 1.9, 42),
        (0.6, RELU6, 2.2, 141),
        (1.0, RELU6, 3.5, 299),
    ],
    ids=str,
)
def test_the_ceil_rule_meets_the_figures_of_tables_2_and_8(widen_factor, act_cfg, params, flops):
    net = AconMobileNetV2(widen_factor, act_cfg=act_cfg, width_rule='ceil')
    measured_params, measured_flops = measure(net)
    assert round(measured_params, 1) == params
    assert abs(measured_flops / flops - 1) < 0.02


def test_the_rows_that_no_setting_meets_have_these_figures():
    # Table 2 prints 6.0M, the slides 3.9M; the reduction of MobileNetV2 is not published.
    assert round(measure(AconMobileNetV2(act_cfg=META8))[0], 2) == 6.26
    assert round(measure(AconMobileNetV2(act_cfg=META))[0], 2) == 4.94
    # Table 8 prints 5.5M and 585M.
    params, flops = measure(AconMobileNetV2(1.4, act_cfg=RELU6))
    assert round(params, 2) == 6.11
    assert abs(flops / 585 - 1) < 0.01


@pytest.mark.parametrize(
    ('widen_factor', 'rule', 'channels'),
    [
        (0.17, 'mmpretrain', [8, 8, 8, 8, 16, 16, 32, 56, 1280]),
        (0.17, 'ceil', [6, 16, 5, 6, 11, 17, 28, 55, 1280]),
        (0.6, 'ceil', [20, 16, 15, 20, 39, 58, 96, 192, 1280]),
        (1.0, 'ceil', [32, 16, 24, 32, 64, 96, 160, 320, 1280]),
        (1.4, 'mmpretrain', [48, 24, 32, 48, 88, 136, 224, 448, 1792]),
    ],
)
def test_the_width_rule_says_how_channels_are_rounded(widen_factor, rule, channels):
    net = AconMobileNetV2(
        widen_factor, act_cfg=RELU6, width_rule=rule, out_indices=tuple(range(8))
    )
    outs = net(torch.rand(2, 3, 32, 32))
    measured = [net.conv1.conv.out_channels, *(out.shape[1] for out in outs)]
    assert measured == channels


@pytest.mark.parametrize(('placement', 'count'), [('all', 35), ('one', 17)])
def test_the_placement_says_which_activations_are_replaced(placement, count):
    net = AconMobileNetV2(0.17, act_cfg=META, placement=placement)
    replaced = [name for name, m in net.named_modules() if isinstance(m, MetaAcon)]
    assert len(replaced) == count
    assert sum(isinstance(m, nn.ReLU6) for m in net.modules()) == 35 - count
    if placement == 'one':
        for name in replaced:
            conv = net.get_submodule(name.removesuffix('activate') + 'conv')
            assert conv.groups == conv.in_channels, 'it follows the depth-wise convolution'


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(widen_factor=-1), 'widen_factor must be a positive number, such as 0.25, but it is'),
        (dict(placement='two'), "placement must be one of 'one', 'all', but it is 'two'"),
        (dict(width_rule='ours'), "width_rule must be one of 'mmpretrain', 'ceil', but it is"),
        (dict(out_indices=(8,)), 'out_indices must be one of 0, 1, 2, 3, 4, 5, 6, 7, but it is 8'),
        (dict(frozen_stages=-2), 'frozen_stages must be one of -1, 0, 1,'),
        (dict(act_cfg=dict(type='Acon')), "'Acon', which is not registered: use one of acon_mm"),
    ],
)
def test_a_bad_argument_is_refused_with_the_accepted_values(args, message):
    with pytest.raises(ValueError, match=message):
        AconMobileNetV2(**args)
