import pytest
import torch
from torch import nn

from acon_mm.models.layers import build_se


def test_it_scales_each_channel_by_what_it_makes_of_all_channels_means():
    torch.manual_seed(0)
    layer = build_se(4, 32)
    x = torch.randn(2, 32, 5, 3)
    means = x.mean((2, 3))
    hidden = means @ layer.conv1.conv.weight[:, :, 0, 0].T + layer.conv1.conv.bias
    assert hidden.shape == (2, 8)
    scale = hidden.relu() @ layer.conv2.conv.weight[:, :, 0, 0].T + layer.conv2.conv.bias
    torch.testing.assert_close(layer(x), x * torch.sigmoid(scale)[:, :, None, None])


def test_none_is_no_layer_and_has_no_state():
    layer = build_se(None, 32)
    assert isinstance(layer, nn.Identity)
    assert not layer.state_dict()


@pytest.mark.parametrize('se_ratio', [0, -1, 1.5, True, dict(ratio=16)])
def test_a_bad_ratio_is_refused(se_ratio):
    with pytest.raises(ValueError, match='se_ratio must be None or a positive integer, but it'):
        build_se(se_ratio, 32)
