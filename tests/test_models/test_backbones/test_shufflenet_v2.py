import pytest
import torch
from mmpretrain.models.utils import SELayer
from torch import nn
from torch.nn import functional as F

from acon_mm.models import AconShuffleNetV2, MetaAcon

RELU = dict(type='ReLU')
ACON_C = dict(type='acon_mm.AconC', init='normal')
META = dict(type='acon_mm.MetaAcon')
META8 = dict(META, reduction=8)
CHANNELS = {
    0.5: [48, 96, 192, 1024],
    1.0: [116, 232, 464, 1024],
    1.5: [176, 352, 704, 1024],
    2.0: [244, 488, 976, 2048],
}


def randomise_norms(net):
    generator = torch.Generator().manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5, generator=generator)
            m.bias.data.normal_(generator=generator)
            m.running_mean.normal_(0, 0.1, generator=generator)
            m.running_var.uniform_(0.5, 2, generator=generator)
    return net


def statement(x, w):
    """Compute the authors' network in eval mode with functional calls.

    ``w`` is the state dict. The exchange is written as they wrote it: by a reshape of pairs.
    """

    def unit(x, name, stride=1, depthwise=False):
        weight = w[f'{name}.conv.weight']
        groups = len(weight) if depthwise else 1
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
        x = F.batch_norm(
            x,
            *(w[f'{name}.bn.{key}'] for key in ('running_mean', 'running_var', 'weight', 'bias')),
        )
        if depthwise:
            return x
        if f'{name}.activate.p1' not in w:
            return x.relu()
        p1, p2, beta = (w[f'{name}.activate.{key}'][:, None, None] for key in ('p1', 'p2', 'beta'))
        return (p1 - p2) * x * torch.sigmoid(beta * (p1 - p2) * x) + p2 * x

    def branch(x, name, stride):
        x = unit(x, f'{name}.0')
        x = unit(x, f'{name}.1', stride, depthwise=True)
        return unit(x, f'{name}.2')

    x = F.max_pool2d(unit(x, 'conv1', 2), 3, 2, 1)
    outs = []
    for stage, num_blocks in (('layer1', 4), ('layer2', 8), ('layer3', 4)):
        for index in range(num_blocks):
            name = f'{stage}.{index}'
            if index == 0:
                kept = unit(x, f'{name}.branch_proj.0', 2, depthwise=True)
                kept = unit(kept, f'{name}.branch_proj.1')
                main = branch(x, f'{name}.branch_main', 2)
            else:
                n, c, height, width = x.shape
                pairs = x.reshape(n * c // 2, 2, height * width).permute(1, 0, 2)
                kept, main = pairs.reshape(2, n, c // 2, height, width)
                main = branch(main, f'{name}.branch_main', 1)
            x = torch.cat([kept, main], 1)
        outs.append(x)
    return [*outs, unit(x, 'conv_last')]


@pytest.mark.parametrize('widen_factor', CHANNELS)
@pytest.mark.parametrize('act_cfg', [RELU, ACON_C], ids=str)
def test_it_is_the_authors_network_in_their_channel_order(widen_factor, act_cfg):
    torch.manual_seed(0)
    net = AconShuffleNetV2(widen_factor, act_cfg=act_cfg, out_indices=(0, 1, 2, 3))
    randomise_norms(net).double().eval()
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        outs, references = net(x), statement(x, net.state_dict())
    assert [out.shape[1] for out in outs] == CHANNELS[widen_factor]
    assert [out.shape[2] for out in outs] == [8, 4, 2, 2]
    for out, reference in zip(outs, references, strict=True):
        assert reference.std() > 0.01, 'the comparison would be empty'
        torch.testing.assert_close(out, reference, rtol=1e-9, atol=1e-9)


# Millions of parameters of the authors' networks, whose convolutions before norms have biases,
# with a classifier of 1000 classes.
@pytest.mark.parametrize(
    ('widen_factor', 'act_cfg', 'params'),
    [
        (0.5, ACON_C, 1.380),
        (1.0, ACON_C, 2.305),
        (1.5, ACON_C, 3.543),
        (2.0, ACON_C, 7.456),
        (0.5, META8, 1.687),
        (1.0, META, 2.596),
        (1.5, META, 3.954),
        (2.0, META, 8.438),
    ],
    ids=str,
)
def test_with_biases_it_has_as_many_parameters_as_the_authors_network(
    widen_factor, act_cfg, params
):
    net = AconShuffleNetV2(widen_factor, act_cfg=act_cfg)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    biases = sum(conv.out_channels for conv in convs if conv.bias is None)
    total = sum(p.numel() for p in net.parameters()) + biases + 1001 * CHANNELS[widen_factor][-1]
    assert abs(total / 1e6 - params) < 1.1e-3


@pytest.mark.parametrize(
    ('widen_factor', 'act_cfg', 'params', 'flops'),
    [
        (0.5, RELU, 1.4, 41),
        (0.5, META8, 1.7, 41),
        (1.0, RELU, 2.3, 146),
        (1.5, RELU, 3.5, 299),
        (1.5, META, 3.9, 299),
        (2.0, RELU, 7.4, 591),
    ],
    ids=str,
)
def test_parameters_and_multiply_accumulates_are_those_of_tables_2_and_8(
    widen_factor, act_cfg, params, flops
):
    net = AconShuffleNetV2(widen_factor, act_cfg=act_cfg).eval()
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
    assert abs((sum(total) + 1000 * channels) / 1e6 / flops - 1) < 0.02


@pytest.mark.parametrize('output_stride', [8, 16])
def test_a_dilated_network_is_the_strided_one_at_more_pixels(output_stride):
    torch.manual_seed(0)
    nets = [
        AconShuffleNetV2(0.5, act_cfg=ACON_C, output_stride=s, out_indices=(0, 1, 2, 3))
        for s in (output_stride, 32)
    ]
    nets[0].load_state_dict(randomise_norms(nets[1]).state_dict())
    x = torch.rand(1, 3, 96, 160, dtype=torch.float64)
    with torch.no_grad():
        dense, strided = (net.double().eval()(x) for net in nets)
    for stride, out, reference in zip((8, 16, 32, 32), dense, strided, strict=True):
        step = stride // min(stride, output_stride)
        assert [out.shape[2], out.shape[3]] == [96 * step // stride, 160 * step // stride]
        assert reference.std() > 0.01, 'the comparison would be empty'
        torch.testing.assert_close(out[..., ::step, ::step], reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(('placement', 'count'), [('all', 37), ('one', 16)])
def test_the_placement_says_which_activations_are_replaced(placement, count):
    net = AconShuffleNetV2(0.5, act_cfg=META8, placement=placement)
    replaced = [name for name, m in net.named_modules() if isinstance(m, MetaAcon)]
    assert len(replaced) == count
    assert sum(isinstance(m, nn.ReLU) for m in net.modules()) == 37 - count
    if placement == 'one':
        assert all(name.endswith('branch_main.2.activate') for name in replaced)


def test_squeeze_and_excitation_scales_what_the_main_branch_returns():
    torch.manual_seed(0)
    plain = AconShuffleNetV2(0.5, act_cfg=RELU).eval()
    net = AconShuffleNetV2(0.5, act_cfg=RELU, se_ratio=16).eval()
    missing, unexpected = net.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all('.branch_main.3.' in key for key in missing)
    assert sum(isinstance(m, SELayer) for m in net.modules()) == 16
    for m in net.modules():
        if isinstance(m, SELayer):
            nn.init.zeros_(m.conv2.conv.weight)
            nn.init.zeros_(m.conv2.conv.bias)
    # Now each layer multiplies by sigmoid(0): the block's second half is half of the plain one's.
    x = torch.rand(2, 24, 16, 16)
    out, reference = net.layer1[0](x), plain.layer1[0](x)
    torch.testing.assert_close(out[:, :24], reference[:, :24])
    torch.testing.assert_close(out[:, 24:], reference[:, 24:] / 2)


def test_the_first_values_are_the_authors_also_after_init_weights():
    torch.manual_seed(0)
    net = AconShuffleNetV2(0.5, act_cfg=META8, se_ratio=16)
    net.init_weights()
    assert abs(net.conv1.conv.weight.std() / 0.01 - 1) < 0.15
    assert abs(net.layer1[0].branch_main[1].conv.weight.std() - 1) < 0.3, 'depth-wise: 1 / 1'
    assert abs(net.conv_last.conv.weight.std() * 192 - 1) < 0.02
    assert abs(net.conv_last.activate.fc1.weight.std() * 1024 - 1) < 0.02
    assert (net.layer2[3].branch_main[0].bn.bias == 1e-4).all()
    assert (net.conv_last.activate.bn2.bias == 1e-4).all()
    assert (net.conv_last.activate.p1 == 1).all()


def test_an_init_cfg_replaces_the_first_values():
    net = AconShuffleNetV2(
        0.5, act_cfg=RELU, init_cfg=dict(type='Constant', layer='Conv2d', val=2)
    )
    net.init_weights()
    assert (net.conv1.conv.weight == 2).all()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(widen_factor=0.7), 'widen_factor must be one of 0.5, 1.0, 1.5, 2.0, but it is 0.7'),
        (dict(placement='two'), "placement must be one of 'one', 'all', but it is 'two'"),
        (dict(output_stride=4), 'output_stride must be one of 8, 16, 32, but it is 4'),
        (dict(se_ratio=0), 'se_ratio must be None or a positive integer, but it is 0'),
        (dict(out_indices=(4,)), 'out_indices must be one of 0, 1, 2, 3, but it is 4'),
        (dict(frozen_stages=5), 'frozen_stages must be one of -1, 0, 1, 2, 3, 4, but it is 5'),
        (dict(act_cfg=dict(type='Acon')), "'Acon', which is not registered: use one of acon_mm"),
    ],
)
def test_a_bad_argument_is_refused_with_the_accepted_values(args, message):
    with pytest.raises(ValueError, match=message):
        AconShuffleNetV2(**args)
