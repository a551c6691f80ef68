import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import DefaultScope
from torch import nn

from acon_mm.models import AconC, MetaAcon, build_activation


def test_an_acon_gets_the_width_of_its_block():
    act = build_activation(dict(type='acon_mm.MetaAcon', reduction=4), 24)
    assert isinstance(act, MetaAcon)
    assert act.p1.shape == (24,)
    assert act.fc1.out_channels == 6


def test_a_class_serves_as_type_and_a_given_width_wins():
    assert build_activation(dict(type=AconC, num_channels=5), 24).num_channels == 5


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain', 'mmengine'])
def test_names_are_found_whatever_the_default_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        assert isinstance(build_activation(dict(type='acon_mm.AconC'), 4), AconC)
        assert isinstance(build_activation(dict(type='AconC'), 4), AconC)
        assert isinstance(build_activation(dict(type='ReLU'), 4), nn.ReLU)


def test_activations_of_torch_work_in_place_unless_told_otherwise():
    assert build_activation(dict(type='SiLU'), 4).inplace
    assert not build_activation(dict(type='ReLU', inplace=False), 4).inplace
    assert isinstance(build_activation(dict(type='Tanh'), 4), nn.Tanh)


NORMED = ['acon_mm.MetaAcon', 'acon_mm.AconFReLU']


@pytest.mark.parametrize('kind', NORMED)
def test_the_norms_inside_are_those_of_the_network_with_all_their_keys(kind):
    norm_cfg = dict(type='SyncBN', eps=0.25, momentum=0.3, requires_grad=False)
    act = build_activation(dict(type=kind), 8, norm_cfg)
    for norm in (act.bn1, act.bn2):
        assert isinstance(norm, nn.SyncBatchNorm)
        assert (norm.eps, norm.momentum) == (0.25, 0.3)
        assert not any(param.requires_grad for param in norm.parameters())
    assert norm_cfg == dict(type='SyncBN', eps=0.25, momentum=0.3, requires_grad=False)


@pytest.mark.parametrize('kind', NORMED)
def test_a_norm_in_the_config_of_the_activation_wins(kind):
    act_cfg = dict(type=kind, norm_cfg=dict(type='BN'))
    assert type(build_activation(act_cfg, 8, dict(type='SyncBN')).bn1) is nn.BatchNorm2d
    none = dict(type='acon_mm.MetaAcon', norm_cfg=None)
    assert isinstance(build_activation(none, 8, dict(type='SyncBN')).bn1, nn.Identity)


@pytest.mark.parametrize('kind', NORMED)
def test_a_network_without_norms_leaves_the_default(kind):
    assert type(build_activation(dict(type=kind), 8, None).bn1) is nn.BatchNorm2d


PER_SAMPLE = [dict(type='GN', num_groups=2), dict(type='IN'), dict(type='mmpretrain.LN2d')]


@pytest.mark.parametrize('norm_cfg', PER_SAMPLE, ids=lambda cfg: cfg['type'])
def test_a_norm_per_sample_is_not_handed_to_a_pooled_map_and_the_message_names_what_works(
    norm_cfg,
):
    with pytest.raises(ValueError, match=r"norm_cfg={'type'.*norm_cfg=dict\(type='BN'\)"):
        build_activation(dict(type='acon_mm.MetaAcon'), 8, norm_cfg)
    x = torch.randn(2, 8, 5, 5)
    for act_cfg in (
        dict(type='acon_mm.MetaAcon', norm_cfg=dict(type='BN')),
        dict(type='acon_mm.MetaAcon', norm_cfg=None),
        dict(type='acon_mm.MetaAcon', manner='layer_wise'),
        dict(type='acon_mm.AconFReLU'),
        dict(type='acon_mm.AconC'),
        dict(type='ReLU'),
    ):
        assert build_activation(act_cfg, 8, norm_cfg)(x).shape == x.shape


def test_the_synchronised_norm_of_mmcv_may_be_handed_on():
    """It cannot be built without a process group."""
    MetaAcon.check_norm_of_network(dict(type='acon_mm.MetaAcon'), dict(type='MMSyncBN'))


def test_the_mark_that_mmengine_leaves_on_inherited_configs_is_ignored():
    assert build_activation(dict(type='acon_mm.AconC', _scope_='acon_mm'), 4).num_channels == 4


def test_the_config_is_not_changed():
    act_cfg = dict(type='acon_mm.AconC', init='normal')
    build_activation(act_cfg, 4)
    assert act_cfg == dict(type='acon_mm.AconC', init='normal')


def test_a_conv_module_of_mmcv_takes_an_acon_with_its_width():
    conv = ConvModule(3, 8, 1, act_cfg=dict(type='acon_mm.AconC', num_channels=8))
    assert conv(torch.randn(2, 3, 4, 4)).shape == (2, 8, 4, 4)


@pytest.mark.parametrize(
    ('act_cfg', 'message'),
    [
        (None, "act_cfg must be a dict with the key 'type'.*None"),
        ({}, "act_cfg must be a dict with the key 'type'"),
        ('ReLU', "act_cfg must be a dict with the key 'type'.*'ReLU'"),
        (dict(type='Acon'), "'Acon', which is not registered: use one of acon_mm.AconA"),
        (dict(type='acon_mm.Acon'), "'acon_mm.Acon', which is not registered"),
        (dict(type='acon_mm.AconC', r=16), "does not fit acon_mm.AconC.*'r'"),
    ],
)
def test_a_bad_config_is_refused_with_what_would_work(act_cfg, message):
    with pytest.raises(ValueError, match=message):
        build_activation(act_cfg, 8)
