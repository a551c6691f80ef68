"""The form for inference: batch norms folded, constants computed once."""

import copy
import os
import runpy
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmpretrain.models import ImageClassifier
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from acon_mm.models import (
    AconA,
    AconB,
    AconC,
    AconFReLU,
    AconMobileNetV2,
    AconResNet,
    AconShuffleNetV2,
    MetaAcon,
    TFNet,
)
from acon_mm.models.activations.acon import ChannelActivation
from acon_mm.models.activations.folding import fold_norm
from acon_mm.ops import smooth_maximum
from acon_mm.ops.backends import VARIABLE

pytestmark = pytest.mark.filterwarnings(
    'ignore:`torch.jit.*` is deprecated:DeprecationWarning',
    'ignore:`torch.jit.*` is deprecated:FutureWarning',
)

CONSTANT = {
    'acon_a': lambda: AconA(8),
    'swish': lambda: AconA(8, beta=2, learnable=False),
    'acon_b': lambda: AconB(8),
    'acon_c': lambda: AconC(8),
}
NORMED = {
    'meta_acon': lambda: MetaAcon(8),
    'wide': lambda: MetaAcon(40, reduction=4),
    'depthwise': lambda: MetaAcon(8, depthwise=True),
    'sync_bn': lambda: MetaAcon(8, norm_cfg=dict(type='SyncBN')),
    'without_affine': lambda: MetaAcon(8, norm_cfg=dict(type='BN', affine=False)),
    'acon_frelu': lambda: AconFReLU(8),
    'strided_frelu': lambda: AconFReLU(8, stride=2),
}
WITHOUT_NORM = {
    'no_norm': lambda: MetaAcon(8, norm_cfg=None),
    'layer_wise': lambda: MetaAcon(8, manner='layer_wise'),
    'pixel_wise': lambda: MetaAcon(8, manner='pixel_wise'),
}
ALL = {**CONSTANT, **NORMED, **WITHOUT_NORM}
NETWORKS = {
    'resnet_aconc': lambda: AconResNet(18, act_cfg=dict(type='acon_mm.AconC')),
    'resnet_metaacon': lambda: AconResNet(18, act_cfg=dict(type='acon_mm.MetaAcon')),
    'shufflenet': lambda: AconShuffleNetV2(0.5, act_cfg=dict(type='acon_mm.MetaAcon')),
    'mobilenet': lambda: AconMobileNetV2(0.17, act_cfg=dict(type='acon_mm.AconB')),
    'tfnet': lambda: TFNet(0.5),
}


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, param in module.named_parameters():
        # Networks keep the weights they start from, which do not make their outputs explode.
        if isinstance(module, ChannelActivation) or name.endswith(('.p', '.p1', '.p2', '.beta')):
            nn.init.normal_(param, std=0.5)
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 2)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 2)
                nn.init.normal_(part.bias, std=0.1)
    return module


def build(name: str) -> nn.Module:
    return randomise(ALL[name]()).eval()


def deployed(module: nn.Module) -> nn.Module:
    other = copy.deepcopy(module)
    other.switch_to_deploy()
    return other


def draw(act: nn.Module, *shape: int) -> torch.Tensor:
    return torch.randn(shape[0], act.num_channels, *shape[1:])


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('shape', [(2, 5, 6), (1, 1, 1)])
def test_a_deployed_activation_computes_the_same(name, shape):
    act = build(name)
    x = draw(act, *shape)
    torch.testing.assert_close(deployed(act)(x), act(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', [*CONSTANT, *(n for n in NORMED if 'frelu' not in n)])
@pytest.mark.parametrize('shape', [(3,), (3, 7), (3, 4, 5), (3, 2, 3, 4)])
def test_a_traced_deployed_activation_takes_any_number_of_dimensions(name, shape):
    act = build(name)
    x = draw(act, *shape)
    traced = torch.jit.trace(deployed(act), x)
    torch.testing.assert_close(traced(x), act(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', CONSTANT)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_the_folded_formula_keeps_the_dtype_and_sums_in_float32(name, dtype):
    act = build(name)
    x = draw(act, 2, 5, 6).to(dtype)
    out = torch.jit.script(deployed(act))(x)
    assert out.dtype == dtype
    expected = act(x.double())
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)


def operations(act: nn.Module, x: torch.Tensor) -> list[str]:
    nodes = torch.export.export(act, (x,)).graph.nodes
    return [node.target.overloadpacket.__name__ for node in nodes if node.op == 'call_function']


def test_the_graph_of_folded_parameters_is_the_pointwise_minimum():
    x = torch.randn(2, 8, 5, 6)
    for name in ('acon_b', 'acon_c'):
        assert operations(deployed(build(name)), x) == ['mul', 'sigmoid', 'mul', 'add', 'mul']
    for name in ('acon_a', 'swish'):
        assert operations(deployed(build(name)), x) == ['mul', 'sigmoid', 'mul']
    assert len(operations(build('acon_c'), x)) > 10


@pytest.mark.skipif(os.environ.get(VARIABLE) == 'formula', reason='no kernel computes anything')
def test_eager_calls_of_folded_parameters_stay_with_the_kernel():
    """It computes the same from the parameters: what was folded for exporters is not read."""
    act = build('acon_c')
    other = deployed(act)
    other.d.fill_(torch.nan)
    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(other(x), act(x))


@pytest.mark.parametrize('name', ['meta_acon', 'depthwise', 'sync_bn'])
def test_no_norm_is_left_in_the_graph_of_meta_acon(name):
    act = build(name)
    x = draw(act, 2, 5, 6)
    assert 'batch_norm' in operations(act, x)
    assert 'batch_norm' not in operations(deployed(act), x)
    assert not [part for part in deployed(act).modules() if isinstance(part, _BatchNorm)]


def test_the_running_statistics_count_in_training_mode_too():
    act = build('meta_acon')
    x = draw(act, 4, 5, 6)
    expected = act(x)
    other = deployed(act.train()).train()
    torch.testing.assert_close(other(x), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(act(x), expected, rtol=1e-3)


def test_a_norm_that_depends_on_the_input_stays():
    norm_cfg = dict(type='GN', num_groups=2)
    act = randomise(MetaAcon(8, norm_cfg=norm_cfg)).eval()
    other = deployed(act)
    assert isinstance(other.bn1, nn.GroupNorm)
    x = draw(act, 2, 5, 6)
    torch.testing.assert_close(other(x), act(x))


@pytest.mark.parametrize('name', ALL)
def test_a_second_call_changes_nothing(name):
    once = deployed(build(name))
    twice = deployed(once)
    state = once.state_dict()
    assert twice.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in twice.state_dict().items())


@pytest.mark.parametrize('name', ALL)
def test_a_deployed_module_loads_the_state_of_another(name):
    one, other = deployed(build(name)), deployed(ALL[name]().eval())
    other.load_state_dict(one.state_dict())
    x = draw(one, 2, 5, 6)
    torch.testing.assert_close(other(x), one(x), rtol=0, atol=0)
    # Exporters see the new values as well.
    torch.testing.assert_close(torch.jit.script(other)(x), one(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ALL)
def test_what_was_folded_gets_no_gradient_but_the_input_does(name):
    other = deployed(build(name))
    assert not [param for param in other.parameters() if param.requires_grad]
    x = draw(other, 2, 5, 6).requires_grad_()
    other(x).sum().backward()
    assert x.grad.any()


def test_a_deployed_acon_c_is_the_smooth_maximum_of_its_two_lines():
    act = build('acon_c').double()
    scripted = torch.jit.script(deployed(act))
    x = torch.randn(2, 8, 5, 6, dtype=torch.double)
    p1, p2, beta = (param.view(8, 1, 1) for param in (act.p1, act.p2, act.beta))
    torch.testing.assert_close(scripted(x), smooth_maximum([p1 * x, p2 * x], beta))


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('groups', [1, 4])
def test_a_folded_convolution_is_the_convolution_and_its_norm(bias, groups):
    conv, norm = nn.Conv2d(4, 8, 3, groups=groups, bias=bias), nn.BatchNorm2d(8)
    randomise(nn.Sequential(conv, norm)).double().eval()
    x = torch.randn(2, 4, 6, 5, dtype=torch.double)
    expected = norm(conv(x))
    assert isinstance(fold_norm(conv, norm), nn.Identity)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize('network', NETWORKS)
def test_a_deployed_network_computes_the_same(network):
    net = randomise(NETWORKS[network]()).eval()
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        (expected,) = net(x)
        net.switch_to_deploy()
        (found,) = net(x)
    acts = [part for part in net.modules() if isinstance(part, ChannelActivation)]
    assert acts
    assert all(act.deploy for act in acts)
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)


def test_mmpretrains_converter_switches_a_classifier(tmp_path):
    tool = Path(mmpretrain.__file__).parent / '.mim/tools/model_converters'
    convert = runpy.run_path(tool / 'reparameterize_model.py')['convert_classifier_to_deploy']
    cfg = dict(
        backbone=dict(type='acon_mm.AconShuffleNetV2', widen_factor=0.5),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=1024),
    )
    net = ImageClassifier(**cfg).eval()
    randomise(net.backbone)
    x = torch.randn(2, 3, 64, 64)
    expected = net(x)
    assert [key for key in net.state_dict() if 'activate.bn' in key]
    convert(net, {}, tmp_path / 'deployed.pth')
    state = torch.load(tmp_path / 'deployed.pth')['state_dict']
    assert not [key for key in state if 'activate.bn' in key]
    loaded = ImageClassifier(**cfg).eval()
    loaded.backbone.switch_to_deploy()
    loaded.load_state_dict(state)
    torch.testing.assert_close(loaded(x), expected, rtol=1e-4, atol=1e-5)
