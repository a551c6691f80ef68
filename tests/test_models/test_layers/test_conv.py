import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from acon_mm.models import AconC
from acon_mm.models.layers import ConvNormAct

RELU = dict(type='ReLU')
BN = dict(type='BN')


@pytest.mark.usefixtures('separate_norms')
@pytest.mark.parametrize('norm_cfg', [BN, dict(type='GN', num_groups=2), None], ids=str)
@pytest.mark.parametrize('act_cfg', [RELU, None], ids=str)
@pytest.mark.parametrize('shape', [(1, 1, 1), (3, 2, 1), (3, 1, 4), (5, 2, 2)], ids=str)
def test_with_a_plain_activation_it_is_the_conv_module_of_mmcv(shape, act_cfg, norm_cfg):
    kernel_size, stride, groups = shape
    args = dict(stride=stride, groups=groups, norm_cfg=norm_cfg, act_cfg=act_cfg)
    theirs = ConvModule(4, 8, kernel_size, padding=kernel_size // 2, **args)
    ours = ConvNormAct(4, 8, kernel_size, **args)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 7, 6)
    assert torch.equal(ours(x), theirs(x))


def test_the_activation_is_told_the_number_of_output_channels():
    unit = ConvNormAct(4, 6, 3, act_cfg=dict(type='acon_mm.AconC'))
    assert isinstance(unit.activate, AconC)
    assert unit.activate.p1.shape == (6,)
    assert [name for name, _ in unit.named_children()] == ['conv', 'bn', 'activate']


def test_a_convolution_has_a_bias_exactly_where_no_norm_follows():
    assert ConvNormAct(4, 8, 3).conv.bias is None
    assert isinstance(ConvNormAct(4, 8, 3, norm_cfg=None).conv.bias, nn.Parameter)


@pytest.mark.parametrize(('stride', 'size'), [(1, (7, 8)), (2, (4, 4)), (3, (3, 3))])
def test_a_stride_divides_the_size_rounding_up(stride, size):
    assert ConvNormAct(1, 1, 3, stride=stride)(torch.rand(2, 1, 7, 8)).shape[2:] == size


def test_a_config_that_is_no_activation_is_refused():
    with pytest.raises(ValueError, match="'Acon', which is not registered"):
        ConvNormAct(4, 8, 3, act_cfg=dict(type='Acon'))
