import pytest
import torch
from torch import nn
from torch.nn import functional as F

from acon_mm.models import AconFReLU, TFNet

# What the authors' files hold, in millions, with a classifier of 1000 classes and a bias in every
# convolution; the paper's FLOPs (Table 8), in millions.
AUTHORS = {0.5: (1.345, 43), 1.0: (1.923, 135), 1.5: (2.779, 279), 2.0: (3.911, 474)}
# The biases before norms that ours lacks. Of a block with w input channels: 3 * w (two 1×1
# convolutions and the activation between) and, in the last activation, w or, at stride 2, 2 * w.
MISSING_BIASES = {0.5: 5792, 1.0: 9536, 1.5: 13280, 2.0: 17024}


def randomise(net):
    generator = torch.Generator().manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for value in (m.weight.data, m.bias.data, m.running_mean):
                value.normal_(generator=generator)
            m.running_var.uniform_(0.5, 2, generator=generator)
    return net


def authors_features(state, x):
    """Run TFNet as the authors' description says, on a state dict."""

    def norm(x, name):
        values = (state[f'{name}.{v}'] for v in ('running_mean', 'running_var', 'weight', 'bias'))
        return F.batch_norm(x, *values)

    def conv(x, name, stride=1):
        weight = state[f'{name}.conv.weight']
        x = F.conv2d(x, weight, None, stride, weight.size(-1) // 2)
        return norm(x, f'{name}.bn')

    def acon_frelu(x, name, stride=1):
        weight = state[f'{name}.conv_frelu.weight']
        x2 = norm(F.conv2d(x, weight, None, stride, 1, groups=x.size(1)), f'{name}.bn1')
        x1 = F.max_pool2d(x, 3, 2, 1) if stride == 2 else x
        return norm((x1 - x2) * torch.sigmoid(x1 - x2) + x2, f'{name}.bn2')

    x = conv(x, 'conv1', 2).relu()
    outs = []
    for stage, num_blocks in enumerate((2, 3, 8, 3), 1):
        for index in range(num_blocks):
            block = f'layer{stage}.{index}'
            main = conv(x, f'{block}.branch_main.0')
            main = acon_frelu(main, f'{block}.branch_main.0.activate')
            main = conv(main, f'{block}.branch_main.1')
            if index == 0:
                x = acon_frelu(torch.cat((x, main), 1), f'{block}.acon', 2)
            else:
                x = acon_frelu(x + main, f'{block}.acon')
        outs.append(x)
    return [*outs, acon_frelu(conv(x, 'conv_last'), 'conv_last.activate')]


@pytest.mark.parametrize('width', AUTHORS)
def test_it_is_the_network_of_the_authors(width):
    net = randomise(TFNet(width, out_indices=range(5))).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        outs, expected = net(x), authors_features(net.state_dict(), x)
    channels = [int(16 * width) * 2**i for i in range(1, 5)]
    assert [out.size(1) for out in outs] == [*channels, 1024]
    assert [64 // out.size(2) for out in outs] == [4, 8, 16, 32, 32]
    for out, reference in zip(outs, expected, strict=True):
        assert (out - reference).norm() <= 1e-4 * reference.norm()


@pytest.mark.parametrize('width', AUTHORS)
def test_its_size_is_that_of_the_authors_but_for_the_biases_before_norms(width):
    with torch.device('meta'):
        net = TFNet(width).eval()
        x = torch.empty(1, 3, 224, 224)
    classifier = 1024 * 1000
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert all(conv.bias is None for conv in convs)
    assert sum(conv.out_channels for conv in convs) == MISSING_BIASES[width]
    params = sum(p.numel() for p in net.parameters()) + classifier + 1000
    flops = [classifier]
    for conv in convs:
        conv.register_forward_hook(
            lambda m, _, out: flops.append(out.numel() * m.weight[0].numel())
        )
    net(x)
    authors_params, paper_flops = AUTHORS[width]
    assert (params + MISSING_BIASES[width]) / 1e6 == pytest.approx(authors_params, abs=0.001)
    assert sum(flops) / 1e6 == pytest.approx(paper_flops, rel=0.03)


def test_every_activation_but_the_stems_is_acon_frelu():
    net = TFNet(0.5)
    blocks = 2 + 3 + 8 + 3
    assert sum(isinstance(m, AconFReLU) for m in net.modules()) == 2 * blocks + 1
    relus = [name for name, m in net.named_modules() if isinstance(m, nn.ReLU)]
    assert relus == ['conv1.activate']


def test_every_parameter_gets_a_gradient():
    net = TFNet(0.5)
    net(torch.rand(2, 3, 64, 64))[-1].square().sum().backward()
    assert [name for name, p in net.named_parameters() if not p.grad.any()] == []


def test_frozen_stages_reach_the_norms_inside_the_activations():
    net = TFNet(0.5, frozen_stages=1).train()
    for part in (net.conv1, net.layer1):
        assert not any(p.requires_grad for p in part.parameters())
        assert not any(m.training for m in part.modules())
    assert all(p.requires_grad for p in net.layer2.parameters())
    assert net.layer2[0].acon.bn1.training


def test_norm_eval_reaches_the_norms_inside_the_activations():
    net = TFNet(0.5, norm_eval=True)
    assert net.train() is net
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert net.layer2[0].acon.training


def test_recomputed_blocks_give_the_gradients_and_statistics_of_stored_ones():
    stored = randomise(TFNet(0.5))
    recomputed = TFNet(0.5, with_cp=True)
    recomputed.load_state_dict(stored.state_dict())
    x = torch.rand(2, 3, 64, 64)
    for net in (stored, recomputed):
        net.train()
        net(x)[-1].square().sum().backward()
    for (name, p), q in zip(stored.named_parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name
    for name, value in recomputed.state_dict().items():
        assert torch.equal(value, stored.state_dict()[name]), name


def test_the_norms_are_those_of_its_config():
    net = TFNet(0.5, norm_cfg=dict(type='SyncBN'))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert isinstance(net.layer1[0].acon.bn2, nn.SyncBatchNorm)


def test_initial_weights_are_those_of_a_rectifier_network():
    net = TFNet(0.5)
    net.init_weights()
    weight = net.conv_last.conv.weight.detach()
    assert weight.std() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(widen_factor=3), 'widen_factor must be one of 0.5, 1.0, 1.5, 2.0, but it is 3'),
        (dict(frozen_stages=6), 'frozen_stages must be one of -1, 0, 1, 2, 3, 4, 5, but it is 6'),
        (dict(out_indices=(5,)), 'out_indices must be one of 0, 1, 2, 3, 4, but it is 5'),
    ],
)
def test_a_bad_argument_is_refused_with_the_accepted_values(args, message):
    with pytest.raises(ValueError, match=message):
        TFNet(**args)
