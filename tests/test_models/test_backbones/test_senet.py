import pytest
import torch
from torch import nn
from torch.nn import functional as F

from acon_mm.models import AconA, AconC, AconSENet
from acon_mm.models.backbones import senet

RELU = dict(type='ReLU')
META = dict(type='acon_mm.MetaAcon')
# SENet-154 of its authors, with a classifier of 1000 classes.
AUTHORS_PARAMETERS = 115_088_984


@pytest.fixture
def shallow(monkeypatch):
    """Shorten the stages: the whole network takes seconds, and its blocks are all alike."""
    monkeypatch.setitem(senet.NUM_BLOCKS, 154, (2, 1, 1, 2))


def randomise(net):
    generator = torch.Generator().manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for value in (m.weight.data, m.bias.data, m.running_mean):
                value.normal_(generator=generator)
            m.running_var.uniform_(0.5, 2, generator=generator)
    return net


def authors_stages(state, x, num_blocks, act):
    """Run SENet-154 with the activation ``act`` after the 3×3 convolutions, on a state dict."""

    def conv(x, name, stride=1, groups=1):
        weight = state[f'{name}.conv.weight']
        x = F.conv2d(x, weight, None, stride, weight.size(-1) // 2, groups=groups)
        values = ('running_mean', 'running_var', 'weight', 'bias')
        return F.batch_norm(x, *(state[f'{name}.bn.{v}'] for v in values))

    def squeeze(x, name):
        weight, bias = state[f'{name}.conv.weight'], state[f'{name}.conv.bias']
        return x @ weight[:, :, 0, 0].T + bias

    for i in range(3):
        x = conv(x, f'stem.{i}', stride=1 if i else 2).relu()
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    outs = []
    for stage in range(1, 5):
        for index in range(num_blocks[stage - 1]):
            block = f'layer{stage}.{index}'
            stride = 2 if index == 0 and stage > 1 else 1
            out = conv(x, f'{block}.conv1').relu()
            out = act(conv(out, f'{block}.conv2', stride, groups=64), f'{block}.conv2')
            out = conv(out, f'{block}.conv3')
            scale = squeeze(out.mean((2, 3)), f'{block}.se_layer.conv1').relu()
            scale = torch.sigmoid(squeeze(scale, f'{block}.se_layer.conv2'))
            out = out * scale[:, :, None, None]
            if index == 0:
                size = state[f'{block}.downsample.conv.weight'].size(-1)
                assert size == (1 if stage == 1 else 3)
                x = conv(x, f'{block}.downsample', stride)
            x = (out + x).relu()
        outs.append(x)
    return outs


@pytest.mark.parametrize('kind', ['ReLU', 'acon_mm.AconC'])
def test_it_is_the_network_of_its_authors(shallow, kind):
    net = randomise(AconSENet(act_cfg=dict(type=kind), out_indices=(0, 1, 2, 3))).eval()
    state = net.state_dict()

    def act(x, name):
        if kind == 'ReLU':
            return x.relu()
        p1, p2, beta = (
            state[f'{name}.activate.{v}'].view(1, -1, 1, 1) for v in ('p1', 'p2', 'beta')
        )
        return (p1 - p2) * x * torch.sigmoid(beta * (p1 - p2) * x) + p2 * x

    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        outs, expected = net(x), authors_stages(state, x, (2, 1, 1, 2), act)
    assert [out.size(1) for out in outs] == [256, 512, 1024, 2048]
    assert [64 // out.size(2) for out in outs] == [4, 8, 16, 32]
    for out, reference in zip(outs, expected, strict=True):
        assert (out - reference).norm() <= 1e-4 * reference.norm()


def test_its_size_is_that_of_its_authors_to_the_last_parameter():
    with torch.device('meta'):
        net = AconSENet(154, act_cfg=RELU)
    total = sum(p.numel() for p in net.parameters()) + 2049 * 1000
    assert total == AUTHORS_PARAMETERS


@pytest.mark.parametrize(('kind', 'of_a_channel'), [(AconA, 1), (AconC, 3)])
def test_one_activation_of_each_block_is_replaced_or_all_three(kind, of_a_channel):
    cfg = dict(type=kind)
    with torch.device('meta'):
        one, every = (AconSENet(act_cfg=cfg, placement=p) for p in ('one', 'all'))
    own = {name for name, m in one.named_modules() if isinstance(m, kind)}
    assert len(own) == 3 + 8 + 36 + 3
    assert all(name.endswith('.conv2.activate') for name in own)
    widths = 3 * 256 + 8 * 512 + 36 * 1024 + 3 * 2048
    plain = AUTHORS_PARAMETERS - 2049 * 1000
    assert sum(p.numel() for p in one.parameters()) == plain + of_a_channel * widths
    own = {name for name, m in every.named_modules() if isinstance(m, kind)}
    assert len(own) == 3 * 50
    assert not any(name.startswith('stem') or 'se_layer' in name for name in own)


def test_frozen_stages_and_norm_eval_reach_the_norms_inside_meta_acon(shallow):
    net = AconSENet(act_cfg=META, frozen_stages=1).train()
    for part in (net.stem, net.layer1):
        assert not any(p.requires_grad for p in part.parameters())
        assert not any(m.training for m in part.modules())
    assert net.layer2[0].conv2.activate.bn1.training
    net = AconSENet(act_cfg=META, norm_eval=True)
    assert net.train() is net
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_recomputed_blocks_give_the_gradients_of_stored_ones(shallow):
    args = dict(act_cfg=dict(type='acon_mm.AconC'), out_indices=(0, 1))
    stored = randomise(AconSENet(**args))
    recomputed = AconSENet(with_cp=True, **args)
    recomputed.load_state_dict(stored.state_dict())
    x = torch.rand(2, 3, 32, 32)
    for net in (stored, recomputed):
        net.train()
        net(x)[-1].square().sum().backward()
    for (name, p), q in zip(stored.named_parameters(), recomputed.parameters(), strict=True):
        assert p.grad is q.grad is None or torch.equal(p.grad, q.grad), name
    for name, value in recomputed.state_dict().items():
        assert torch.equal(value, stored.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['ReLU', 'acon_mm.AconA', 'acon_mm.AconC'])
def test_the_whole_depth_trains(kind):
    net = AconSENet(154, act_cfg=dict(type=kind))
    net.init_weights()
    net(torch.rand(2, 3, 64, 64))[-1].square().sum().backward()
    assert [n for n, p in net.named_parameters() if not torch.isfinite(p.grad).all()] == []
    assert all(p.grad.any() for n, p in net.named_parameters() if n.startswith('layer1'))


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(depth=50), 'depth must be one of 154, but it is 50'),
        (dict(placement=None), "placement must be one of 'one', 'all', but it is None"),
        (dict(frozen_stages=5), 'frozen_stages must be one of -1, 0, 1, 2, 3, 4, but it is 5'),
        (dict(out_indices=(4,)), 'out_indices must be one of 0, 1, 2, 3, but it is 4'),
        (dict(act_cfg='ReLU'), "act_cfg must be a dict with the key 'type'"),
    ],
)
def test_a_bad_argument_is_refused_with_the_accepted_values(shallow, args, message):
    with pytest.raises(ValueError, match=message):
        AconSENet(**args)
