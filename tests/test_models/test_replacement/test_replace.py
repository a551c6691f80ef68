"""The activations of any network are replaced, and nothing else of it changes."""

import copy
import logging
import pickle

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn import functional as F
from torchvision import models as torchvision_models

from acon_mm import config_path, replace_activations
from acon_mm.errors import UserError
from acon_mm.models import AconC, MetaAcon
from acon_mm.models.activations.acon import ChannelActivation
from acon_mm.ops.norm_act import may_compute_norm_act

META = dict(type='acon_mm.MetaAcon')
IMAGE = torch.rand(1, 3, 64, 64)


class Net(nn.Module):
    """Has one activation in several places, a gate, a function and an unused activation."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv3 = nn.Conv2d(8, 16, 1, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(16, 4, 1),
            nn.ReLU(),
            nn.Conv2d(4, 16, 1),
            nn.Sigmoid(),
        )
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.unused = nn.SiLU()

    def forward(self, x):
        x = self.relu(self.norm(self.conv1(x)))
        x = self.relu(self.conv2(x))
        x = self.relu(self.conv3(x))
        x = x * self.gate(x)
        tokens = self.mlp(x.flatten(2).transpose(1, 2))
        return F.relu(tokens)


@pytest.fixture
def log(caplog):
    """What is logged; mmengine's logger passes nothing on by itself."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def acons(network):
    return {n: m for n, m in network.named_modules() if isinstance(m, ChannelActivation)}


def test_each_call_gets_the_width_and_place_of_its_channels():
    net = replace_activations(Net(), IMAGE, META)
    found = {n: (m.num_channels, m.channel_dim) for n, m in acons(net).items()}
    assert found == {
        'relu': (8, 1),
        'relu_2': (8, 1),
        'relu_3': (16, 1),
        'mlp.1': (32, -1),
    }


def test_what_was_done_and_what_was_left_is_logged(log):
    replace_activations(Net(), IMAGE, META)
    assert 'Net: 4 activations replaced by MetaAcon, of 8, 16, 32 channels' in log.text
    assert '1 of them with the channels last' in log.text
    assert 'left, as it belongs to a gate: 1 (gate.2)' in log.text
    assert 'left, as it is not called: 1 (unused)' in log.text
    assert 'left, as it is no module: relu in forward (test_replace.py:' in log.text


def test_everything_trains_and_the_rest_of_the_network_stays():
    stock = Net()
    net = replace_activations(copy.deepcopy(stock), IMAGE, META)
    net.eval()(torch.rand(4, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for m in acons(net).values() for p in m.parameters())
    state = net.state_dict()
    for key, value in stock.state_dict().items():
        assert torch.equal(state.pop(key), value), key
    assert state and all(any(k.startswith(f'{n}.') for n in acons(net)) for k in state)


STOCK = {
    'mmdet.ResNet': dict(depth=18),
    'mmpretrain.ResNet': dict(depth=18),
    'mmseg.ResNetV1c': dict(depth=50, base_channels=16, stem_channels=16),
    'mmpretrain.SEResNet': dict(depth=50),
    'mmdet.Res2Net': dict(depth=50),
    'mmseg.ResNeSt': dict(depth=50),
    'mmpretrain.RegNet': dict(arch='regnetx_400mf'),
    'mmseg.DDRNet': {},
}
QUICK = ('mmdet.ResNet', 'mmpretrain.ResNet', 'mmseg.ResNetV1c')


@pytest.mark.parametrize(
    'name',
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in STOCK],
)
def test_separated_calls_compute_what_the_stock_network_does(name):
    """Replaced by ReLU, which every call site has of its own then, no bit changes."""
    torch.manual_seed(0)
    stock = MODELS.build(dict(STOCK[name], type=name))
    net = copy.deepcopy(stock)
    replace_activations(net, IMAGE, dict(type='ReLU', inplace=False))
    assert isinstance(net, type(stock))
    for mode in (True, False):
        for network in (stock, net):
            network.train(mode)
        of_both = [network(torch.ones(2, 3, 64, 64) * 0.5) for network in (net, stock)]
        torch.testing.assert_close(*of_both, rtol=0, atol=0)


def test_a_loop_over_branches_gets_an_activation_for_each_width():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(3, width, 1) for width in (4, 6))
            self.relu = nn.ReLU()

        def forward(self, x):
            return [self.relu(conv(x)) for conv in self.convs]

    net = replace_activations(Branches(), IMAGE, dict(type='acon_mm.AconC'))
    assert {n: m.num_channels for n, m in acons(net).items()} == {'relu.4': 4, 'relu.6': 6}
    x = torch.rand(2, 3, 8, 8)
    of_branches = [act(conv(x)) for conv, act in zip(net.convs, acons(net).values(), strict=True)]
    torch.testing.assert_close(net(x), of_branches)


def test_an_input_that_the_network_changes_later_is_kept_for_the_gradient():
    class AddsInPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 4, 1), nn.ReLU()

        def forward(self, x):
            x = self.conv(x)
            y = self.relu(x)
            x += 1
            return y.square() + x

    net = replace_activations(AddsInPlace(), IMAGE, dict(type='acon_mm.AconC'))
    x = torch.rand(2, 3, 4, 4)
    net(x).sum().backward()
    weight = net.conv.weight.detach().requires_grad_()
    mapped = F.conv2d(x, weight, net.conv.bias)
    (F.silu(mapped).square() + mapped + 1).sum().backward()
    torch.testing.assert_close(net.conv.weight.grad, weight.grad)


def test_a_network_is_as_before_after_the_runs_that_look_at_it():
    net = Net()
    net.norm.eval()
    modes = {n: m.training for n, m in net.named_modules()}
    buffers = copy.deepcopy(dict(net.named_buffers()))
    state = torch.get_rng_state()
    with pytest.raises(UserError):
        replace_activations(net, IMAGE, META, where='nothing')
    assert torch.equal(torch.get_rng_state(), state)
    assert {n: m.training for n, m in net.named_modules()} | {'': True} == modes
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, buffers[name])
    assert net.relu.inplace


@pytest.mark.parametrize(
    ('chosen', 'names'),
    [
        (dict(where='mlp.*'), {'mlp.1'}),
        (dict(where_not=['relu*']), {'mlp.1'}),
        (dict(replace='ReLU'), {'relu', 'relu_2', 'relu_3'}),
        (dict(replace=[nn.GELU]), {'mlp.1'}),
    ],
)
def test_activations_are_chosen_by_name_and_class(chosen, names):
    assert set(acons(replace_activations(Net(), IMAGE, META, **chosen))) == names


def test_stages_and_one_per_block_choose_the_papers_places():
    net = MODELS.build(dict(type='mmdet.ResNet', depth=50, base_channels=8, stem_channels=8))
    replace_activations(net, IMAGE, META, stages=(3, 4), one_per_block=True)
    # After the 3×3 convolution of each of the 6 + 3 bottlenecks.
    names = [f'layer3.{i}.relu_2' for i in range(6)] + [f'layer4.{i}.relu_2' for i in range(3)]
    assert list(acons(net)) == names


def test_nothing_to_replace_is_an_error_with_what_is_there():
    with pytest.raises(UserError, match=r'relu is not in `where`.*relu in forward.*no module'):
        replace_activations(Net(), IMAGE, META, where='backbone.*')


def test_an_input_that_does_not_fit_is_an_error_with_its_shape():
    with pytest.raises(UserError, match=r'Net does not run .*\(2, 5, 8, 8\).*3 channels'):
        replace_activations(Net(), torch.rand(1, 5, 8, 8), META)


def test_frozen_stages_freeze_their_activations():
    net = MODELS.build(dict(type='mmdet.ResNet', depth=18, frozen_stages=1))
    replace_activations(net, IMAGE, META)
    for name, module in acons(net).items():
        frozen = name == 'relu' or name.startswith('layer1.')
        assert all(p.requires_grad is not frozen for p in module.parameters()), name


def test_norms_inside_follow_those_of_the_network():
    net = MODELS.build(
        dict(
            type='mmdet.CSPDarknet',
            widen_factor=0.125,
            norm_cfg=dict(type='SyncBN', momentum=0.03, eps=1e-3),
        )
    )
    replace_activations(net, IMAGE, META, where='stem.*')
    (norm,) = [m.bn1 for m in acons(net).values()]
    assert isinstance(norm, nn.SyncBatchNorm)
    assert (norm.momentum, norm.eps) == (0.03, 1e-3)


@pytest.mark.parametrize('load', ['torch', 'mmengine'])
def test_stock_weights_load_with_one_warning_that_names_the_activations(log, load):
    stock, net = Net(), replace_activations(Net(), IMAGE, META)
    first = {n: copy.deepcopy(m.state_dict()) for n, m in acons(net).items()}
    log.clear()
    if load == 'torch':
        missing = net.load_state_dict(stock.state_dict(), strict=True).missing_keys
        assert missing == []
    else:
        load_state_dict(net, stock.state_dict(), strict=False)
    warnings = [r.getMessage() for r in log.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert (
        '4 activations of Net' in warnings[0] and 'relu, mlp.1, relu_2 and 1 more' in warnings[0]
    )
    state = net.state_dict()
    for key, value in stock.state_dict().items():
        assert torch.equal(state[key], value)
    for name, module in acons(net).items():
        torch.testing.assert_close(module.state_dict(), first[name], rtol=0, atol=0)


def test_a_missing_weight_of_the_network_is_still_missing():
    net = replace_activations(Net(), IMAGE, META)
    state = Net().state_dict()
    del state['conv2.weight']
    assert net.load_state_dict(state, strict=False).missing_keys == ['conv2.weight']


def test_stock_weights_of_a_detector_lack_nothing_but_the_activations():
    cfg = Config.fromfile(config_path('rtmdet_tiny_metaacon_coco')).model
    cfg.backbone.init_cfg = None
    net = MODELS.build(cfg)
    cfg['type'] = cfg.pop('module')
    del cfg['act_cfg']
    stock = MODELS.build(cfg)
    own = {f'{n}.{key}' for n, m in acons(net).items() for key in m.state_dict()}
    assert len(acons(net)) == 76
    assert net.state_dict().keys() - own == stock.state_dict().keys()
    found = net.load_state_dict(stock.state_dict(), strict=True)
    assert (found.missing_keys, found.unexpected_keys) == ([], [])


class FirstChannels(nn.Module):
    """The activation after moving the channels from the last dimension to the first."""

    def __init__(self, act):
        super().__init__()
        self.act = copy.deepcopy(act)
        self.act.channel_dim = 1

    def forward(self, x):
        return self.act(x.movedim(-1, 1)).movedim(1, -1)


@pytest.mark.parametrize('act', ['AconC', 'MetaAcon'])
@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='mmpretrain.SwinTransformer', arch='tiny', pad_small_map=True),
        dict(type='mmpretrain.ConvNeXt', arch='atto'),
    ],
    ids=['swin', 'convnext'],
)
def test_channels_in_the_last_dimension_are_as_those_in_the_first(cfg, act):
    torch.manual_seed(0)
    net = MODELS.build(cfg).double()
    replace_activations(net, IMAGE.double(), dict(type=f'acon_mm.{act}'))
    twin = copy.deepcopy(net)
    assert all(module.channel_dim == -1 for module in acons(net).values())
    for name, module in acons(twin).items():
        twin.set_submodule(name, FirstChannels(module))
    x = torch.rand(2, 3, 64, 64).double()
    of_both = []
    for network in (net, twin):
        network.eval()
        (y,) = network(x)
        y.square().sum().backward()
        of_both.append([y, *(p.grad for p in network.parameters())])
    torch.testing.assert_close(*of_both, rtol=1e-6, atol=1e-6)


@pytest.fixture
def conv_module():
    torch.manual_seed(0)
    module = ConvModule(3, 8, 3, norm_cfg=dict(type='BN'), act_cfg=dict(type='SiLU'))
    return replace_activations(module, IMAGE, META)


def test_a_conv_module_does_what_it_did_with_an_activation_of_ours(conv_module):
    conv, norm, act = conv_module.conv, conv_module.norm, conv_module.activate
    x = torch.rand(4, 3, 16, 16)
    for mode in (True, False):
        conv_module.train(mode)
        torch.testing.assert_close(conv_module(x), act(norm(conv(x))), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(conv_module(x, activate=False), norm(conv(x)))
        torch.testing.assert_close(conv_module(x, norm=False), act(conv(x)))
    assert isinstance(pickle.loads(pickle.dumps(conv_module)), ConvModule)


@pytest.mark.skipif(
    not may_compute_norm_act(torch.ones(1, 1, 2, 2)), reason='the CPU kernel is not active'
)
def test_a_conv_module_keeps_no_map_between_norm_and_activation(conv_module):
    x, kept = torch.rand(4, 3, 34, 34), set()

    def keep(tensor):
        if tensor.numel() == 4 * 8 * 32 * 32:
            kept.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = conv_module(x)
    assert y.shape == (4, 8, 32, 32)
    assert len(kept) == 1


@pytest.mark.parametrize('act', ['AconA', 'AconC', 'MetaAcon'])
def test_like_replaced_keeps_the_features_of_a_resnet(act):
    stock = torchvision_models.resnet50()
    stock.fc = nn.Identity()
    net = copy.deepcopy(stock)
    replace_activations(net, IMAGE, dict(type=f'acon_mm.{act}'), like_replaced=True)
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        for mode in (True, False):
            was, now = stock.train(mode)(x), net.train(mode)(x)
            assert (now - was).norm() <= 1e-2 * was.norm()


@pytest.mark.parametrize(
    ('old', 'bound'),
    [
        (nn.ReLU(), 0.00028),
        (nn.LeakyReLU(0.1), 0.00028),
        (nn.PReLU(8), 0.00028),
        (nn.SiLU(), 1e-6),
        (nn.GELU(), 0.0203),
    ],
)
@pytest.mark.parametrize('act', ['AconB', 'AconC', 'MetaAcon'])
def test_like_replaced_differs_by_what_is_documented(old, bound, act):
    net = nn.Sequential(nn.Conv2d(8, 8, 1), copy.deepcopy(old))
    replace_activations(
        net, torch.rand(1, 8, 4, 4), dict(type=f'acon_mm.{act}'), like_replaced=True
    )
    x = torch.linspace(-6, 6, 12000).view(1, 1, -1, 1).expand(2, 8, -1, 1)
    # What an init_cfg does to all norms and layers does not change it.
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    difference = (net[1](x) - old(x)).abs().max()
    assert difference <= bound * 1.02
    assert bound < 1e-5 or difference > bound * 0.9


def test_like_replaced_refuses_what_it_cannot_come_close_to():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ELU())
    with pytest.raises(UserError, match=r'like_replaced must be False where ELU.*where_not'):
        replace_activations(net, IMAGE, META, like_replaced=True)


def test_another_activation_of_torch_can_take_the_place():
    net = replace_activations(Net(), IMAGE, dict(type='Mish'), where='mlp.*')
    assert isinstance(net.mlp[1], nn.Mish)


def test_frelu_with_the_channels_last_is_refused():
    with pytest.raises(UserError, match=r"act_cfg .*AconFReLU.* at 'mlp\.1'.*last dimension"):
        replace_activations(Net(), IMAGE, dict(type='acon_mm.AconFReLU'))


@pytest.mark.parametrize(
    ('name', 'size', 'count'),
    [('resnet18', 64, 17), ('mobilenet_v3_small', 64, 24), ('swin_t', 64, 12)],
)
def test_networks_of_torchvision_take_it(name, size, count):
    net = getattr(torchvision_models, name)()
    assert replace_activations(net, torch.rand(1, 3, size, size), META) is net
    assert len(acons(net)) == count
    net.train()(torch.rand(2, 3, size, size)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(
    ('name', 'count'), [('efficientnet_b0', 33), ('regnety_002', 40), ('convnext_atto', 12)]
)
def test_networks_of_timm_take_it(name, count):
    timm = pytest.importorskip('timm', reason='timm is not installed')
    net = replace_activations(timm.create_model(name), IMAGE, META)
    assert len(acons(net)) == count
    net.train()(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_double_networks_and_their_devices_are_followed():
    net = replace_activations(Net().double(), IMAGE.double(), dict(type='acon_mm.AconC'))
    assert all(isinstance(m, AconC) and m.p1.dtype == torch.float64 for m in acons(net).values())


def test_a_module_in_two_networks_gets_a_place_for_each():
    act = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(3, 4, 1), act, nn.Conv2d(4, 6, 1), act)
    replace_activations(net, IMAGE, META)
    assert isinstance(net[1], MetaAcon) and isinstance(net[3], MetaAcon)
    assert (net[1].num_channels, net[3].num_channels) == (4, 6)
