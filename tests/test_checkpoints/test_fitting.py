import pytest
import torch
from mmengine.model import PretrainedInit

from acon_mm.checkpoints import fitting
from acon_mm.errors import PretrainedMismatchError
from acon_mm.models import AconResNet, AconShuffleNetV2

RELU = dict(type='ReLU')
SWISH = dict(type='acon_mm.AconA')
ACON_C = dict(type='acon_mm.AconC')
META = dict(type='acon_mm.MetaAcon')


def resnet(act_cfg, depth=18, **kwargs):
    return AconResNet(depth, act_cfg=act_cfg, **kwargs)


def shufflenet(act_cfg, widen_factor=0.5, **kwargs):
    return AconShuffleNetV2(widen_factor, act_cfg=act_cfg, **kwargs)


BUILDERS = [resnet, shufflenet]


@pytest.fixture
def start(tmp_path):
    """Save a network as part of a classifier; return the ``init_cfg`` that starts from it."""

    def save(net, prefix='backbone.', **more):
        generator = torch.Generator().manual_seed(0)
        state = {
            name: torch.rand(value.shape, generator=generator)
            if value.is_floating_point()
            else value
            for name, value in net.state_dict().items()
        }
        net.load_state_dict(state)
        path = tmp_path / 'net.pth'
        whole = {f'{prefix}{name}': value for name, value in state.items()}
        torch.save({'state_dict': whole | {'head.fc.weight': torch.ones(1), **more}}, path)
        init_cfg = dict(type='Pretrained', checkpoint=str(path))
        return init_cfg | dict(prefix=prefix) if prefix else init_cfg

    return save


@pytest.fixture
def warned(monkeypatch):
    lines = []
    monkeypatch.setattr(fitting, 'print_log', lambda text, **kwargs: lines.append(text))
    return lines


def refusal(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(PretrainedMismatchError) as error:
        net.init_weights()
    after = net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('build', BUILDERS)
@pytest.mark.parametrize('prefix', ['backbone.', ''])
def test_weights_of_the_same_network_are_loaded_without_a_word(build, prefix, start, warned):
    source = build(META)
    net = build(META, init_cfg=start(source, prefix))
    net.init_weights()
    arrived = net.state_dict()
    assert all(torch.equal(arrived[name], v) for name, v in source.state_dict().items())
    assert not warned


def test_weights_of_a_relu_network_start_the_swish_network_with_a_warning(start, warned):
    source = resnet(RELU)
    net = resnet(ACON_C, init_cfg=start(source))
    net.init_weights()
    swish = resnet(dict(type='SiLU'))
    swish.load_state_dict(source.state_dict())
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x), swish.eval()(x))
    assert len(warned) == 1
    # Three parameters of each of two activations in eight blocks.
    assert 'lacks 48 parameters of 16 activations' in warned[0]
    names = warned[0].rpartition(': ')[2].split(', ')
    assert names[0] == 'layer1.0.act1'
    assert len(names) == 16


def test_weights_of_acon_a_start_a_network_of_acon_c_with_their_beta(start, warned):
    source = shufflenet(SWISH)
    net = shufflenet(ACON_C, init_cfg=start(source))
    net.init_weights()
    assert torch.equal(net.conv1.activate.beta, source.conv1.activate.beta)
    assert (net.conv1.activate.p1 == 1).all()
    assert len(warned) == 1


@pytest.mark.parametrize('build', BUILDERS)
@pytest.mark.parametrize(
    ('source', 'target', 'key'),
    [
        (META, RELU, 'p1'),
        (META, SWISH, 'p1'),
        (SWISH, META, 'beta'),
        (META, ACON_C, 'fc1.weight'),
    ],
    ids=str,
)
def test_another_activation_is_refused_with_its_keys(build, source, target, key, start):
    message = refusal(build(target, init_cfg=start(build(source))))
    assert 'unexpected: ' in message
    assert f'.{key}' in message
    assert 'missing' not in message


def test_another_reduction_is_refused_with_both_shapes(start):
    net = shufflenet(META | dict(reduction=8), init_cfg=start(shufflenet(META)))
    message = refusal(net)
    # 24 channels: hidden widths of at least 16 and at least 8.
    assert 'of another shape: conv1.activate.fc1.weight ((16, 24, 1, 1) instead of (8,' in message
    assert 'missing' not in message
    assert 'unexpected' not in message


@pytest.mark.parametrize(
    ('source', 'target', 'kinds'),
    [
        (resnet(RELU, 34), resnet(RELU, 18), ['unexpected: layer1.2.conv1.weight']),
        (resnet(RELU, 18), resnet(RELU, 34), ['missing: layer1.2.conv1.weight']),
        (shufflenet(RELU, 1.0), shufflenet(RELU, 0.5), ['of another shape: layer1.0']),
        (
            resnet(RELU, 50),
            resnet(RELU, 18),
            ['unexpected: layer1.0.conv3.weight', '(64, 64, 1, 1) instead of'],
        ),
    ],
    ids=['deeper', 'shallower', 'wider', 'other_blocks'],
)
@pytest.mark.parametrize('prefix', ['backbone.', ''])
def test_another_depth_or_width_is_refused(source, target, kinds, prefix, start):
    target.init_cfg = start(source, prefix)
    message = refusal(target)
    assert all(kind in message for kind in kinds)
    assert 'more' in message


def test_a_whole_classifier_without_a_prefix_is_refused_with_the_prefix_to_give(start):
    init_cfg = start(resnet(RELU))
    del init_cfg['prefix']
    assert "add prefix='backbone.' to init_cfg" in refusal(resnet(RELU, init_cfg=init_cfg))


@pytest.mark.parametrize('kind', ['Pretrained', 'mmengine.Pretrained', PretrainedInit])
def test_a_checkpoint_is_checked_however_its_type_is_written(kind, start):
    init_cfg = start(resnet(RELU, 34)) | dict(type=kind)
    assert 'unexpected: layer1.2.conv1.weight' in refusal(resnet(RELU, 18, init_cfg=init_cfg))


def test_a_prefix_that_the_file_does_not_have_is_refused(start):
    init_cfg = start(resnet(RELU)) | dict(prefix='module.backbone')
    assert "the prefix 'module.backbone', but no key" in refusal(resnet(RELU, init_cfg=init_cfg))
