import pytest
import torch
from torch import nn

from acon_mm.models import MetaAcon
from acon_mm.models.layers import draw_authors_weights


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 256, 3)),
        nn.BatchNorm2d(256),
        nn.Conv2d(256, 256, 3, groups=256),
        nn.Conv2d(256, 64, 1),
        MetaAcon(64, init='normal'),
    )
    with torch.no_grad():
        net[1].weight.fill_(3)
    net.slopes = net[4].p1.clone()
    draw_authors_weights(net, first=net[0])
    return net


@pytest.mark.parametrize(
    ('name', 'std'),
    [('0.0', 0.01), ('2', 1.0), ('3', 1 / 256), ('4.fc1', 1 / 64), ('4.fc2', 1 / 16)],
)
def test_weights_are_normal_with_the_deviation_of_their_fan(net, name, std):
    weight = net.get_submodule(name).weight
    # The deviation of n draws has itself one of std / sqrt(2n): five of them are allowed.
    assert abs(weight.std() / std - 1) < 5 / (2 * weight.numel()) ** 0.5
    assert abs(weight.mean()) < 5 * std / weight.numel() ** 0.5


def test_biases_are_zero_and_those_of_norms_a_ten_thousandth(net):
    assert not net[0][0].bias.any()
    assert not net[4].fc1.bias.any()
    for norm in (net[1], net[4].bn1, net[4].bn2):
        assert (norm.weight == 1).all()
        assert (norm.bias == 1e-4).all()


def test_slopes_of_activations_are_left_alone(net):
    assert torch.equal(net[4].p1, net.slopes)
