"""The norms inside the activations of a backbone are those of the backbone."""

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from acon_mm.models import (
    AconMobileNetV1,
    AconMobileNetV2,
    AconResNet,
    AconShuffleNetV2,
    MetaAcon,
    TFNet,
)
from acon_mm.models.activations.acon import ChannelActivation
from acon_mm.models.backbones.senet import SENetBlock

META = dict(type='acon_mm.MetaAcon')
NETWORKS = {
    'basic blocks': lambda **kwargs: AconResNet(18, **kwargs),
    'bottlenecks': lambda **kwargs: AconResNet(50, **kwargs),
    'mobilenet_v1': lambda **kwargs: AconMobileNetV1(0.25, **kwargs),
    'mobilenet_v2': lambda **kwargs: AconMobileNetV2(0.17, **kwargs),
    'shufflenet_v2': lambda **kwargs: AconShuffleNetV2(0.5, **kwargs),
    'senet': lambda **kwargs: SENetBlock(64, 128, projection=1, **kwargs),
}


@pytest.mark.parametrize('placement', ['one', 'all'])
@pytest.mark.parametrize('name', NETWORKS)
def test_every_norm_is_that_of_the_network(name, placement):
    norm_cfg = dict(type='SyncBN', requires_grad=True)
    net = NETWORKS[name](act_cfg=META, placement=placement, norm_cfg=norm_cfg)
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    inside = [m.bn1 for m in net.modules() if isinstance(m, MetaAcon)]
    assert inside
    assert all(any(norm is other for other in norms) for norm in inside)


@pytest.mark.parametrize('name', NETWORKS)
def test_a_norm_that_the_activation_names_is_inside_the_activations_alone(name):
    act_cfg = dict(**META, norm_cfg=dict(type='BN'))
    net = NETWORKS[name](act_cfg=act_cfg, placement='all', norm_cfg=dict(type='SyncBN'))
    for module in net.modules():
        if isinstance(module, MetaAcon):
            assert type(module.bn1) is type(module.bn2) is nn.BatchNorm2d
    outside = set(net.modules()) - {
        part for m in net.modules() if isinstance(m, ChannelActivation) for part in m.modules()
    }
    norms = [m for m in outside if isinstance(m, _BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


def test_the_first_stage_of_resnet50_synchronises_the_norms_inside():
    assert isinstance(
        AconResNet(50, norm_cfg=dict(type='SyncBN')).layer1[0].act2.bn1, nn.SyncBatchNorm
    )


def test_in_one_process_synchronised_norms_are_batch_norms():
    """The state and the outputs do not depend on it, in training and in evaluation."""
    torch.manual_seed(0)
    plain = AconResNet(18, act_cfg=META, norm_cfg=dict(type='BN'))
    synced = AconResNet(18, act_cfg=META, norm_cfg=dict(type='SyncBN'))
    assert list(synced.state_dict()) == list(plain.state_dict())
    synced.load_state_dict(plain.state_dict())
    x = torch.rand(3, 3, 64, 64)
    for mode in (True, False):
        for out, expected in zip(synced.train(mode)(x), plain.train(mode)(x), strict=True):
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_a_backbone_with_group_norms_asks_for_the_norm_inside_meta_acon():
    norm_cfg = dict(type='GN', num_groups=8)
    with pytest.raises(ValueError, match=r'must be batch norms\. Name one in act_cfg'):
        AconResNet(18, act_cfg=META, norm_cfg=norm_cfg)
    act_cfg = dict(**META, norm_cfg=dict(type='BN'))
    net = AconResNet(18, act_cfg=act_cfg, norm_cfg=norm_cfg)
    assert type(net.layer1[0].act1.bn1) is nn.BatchNorm2d
    assert isinstance(net.layer1[0].norm1, nn.GroupNorm)
    norms = TFNet(0.5, norm_cfg=norm_cfg).layer1[0].acon.modules()
    assert sum(isinstance(norm, nn.GroupNorm) for norm in norms) == 2
