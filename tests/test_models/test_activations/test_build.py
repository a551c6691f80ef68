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
