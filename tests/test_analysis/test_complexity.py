import pytest
import torch
from mmengine.config import Config
from torch import nn

from acon_mm import config_path
from acon_mm.analysis.complexity import count_complexity, count_config, image_size
from acon_mm.errors import UserError
from acon_mm.models import AconC, AconFReLU, MetaAcon


class Net(nn.Module):
    """A 3×3 convolution, an activation, a grouped convolution and a classifier."""

    def __init__(self, act):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(32)
        self.act = act
        self.grouped = nn.Conv2d(32, 64, 3, padding=1, groups=8, bias=False)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.grouped(self.act(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3)))


CONVS = 16 * 16 * 32 * 3 * 9 + 16 * 16 * 64 * 4 * 9
FLOPS = CONVS + 64 * 10
PARAMS = (32 * 27 + 32) + 64 + 64 * 4 * 9 + (64 * 10 + 10)
VALUES = 32 * 16 * 16


@pytest.mark.parametrize(
    ('act', 'params', 'flops', 'values'),
    [
        (nn.ReLU(), 0, 0, VALUES),
        (AconC(32), 3 * 32, 0, VALUES),
        # p1, p2; two layers with biases and a hidden width of 16; two norms.
        (MetaAcon(32), 64 + (512 + 16) + (512 + 32) + 32 + 64, 2 * 32 * 16, VALUES),
        (MetaAcon(32, depthwise=True), 64 + 4 * 32 + 4 * 32, 2 * 32, VALUES),
        (AconFReLU(32), 32 * 9 + 4 * 32, 16 * 16 * 32 * 9, VALUES),
    ],
    ids=['relu', 'aconc', 'metaacon', 'metaacon_depthwise', 'frelu'],
)
def test_the_counts_are_those_of_the_closed_form(act, params, flops, values):
    cost = count_complexity(Net(act), (3, 32, 32))
    assert cost.params == PARAMS + params
    assert cost.flops == FLOPS + flops
    assert cost.activation_params == params
    assert cost.activation_flops == flops
    assert cost.activation_elements == values


def test_flops_of_convolutions_grow_with_the_area_of_the_image():
    small = count_complexity(Net(nn.ReLU()), (3, 32, 32))
    large = count_complexity(Net(nn.ReLU()), (3, 64, 96))
    assert large.flops - 64 * 10 == 6 * CONVS
    assert small.params == large.params


def test_what_is_left_out_is_said():
    left_out = count_complexity(Net(AconC(32)), (3, 32, 32)).left_out
    assert left_out['aten::batch_norm'] == 1
    assert 'aten::sigmoid' in left_out
    assert not set(left_out) & {'aten::_convolution', 'aten::linear'}


def test_attention_is_no_activation():
    class Attention(nn.MultiheadAttention):
        def forward(self, x):
            return super().forward(x, x, x)[0]

    cost = count_complexity(nn.Sequential(nn.Flatten(2), Attention(16, 2), nn.ReLU()), (3, 4, 4))
    assert (cost.activation_params, cost.activation_flops) == (0, 0)
    assert cost.activation_elements == 3 * 16


def test_counting_leaves_the_weights_as_they_are():
    net = Net(MetaAcon(32))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    count_complexity(net, (3, 32, 32))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_a_config_without_a_model_and_a_wrong_size_are_refused(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('lr = 1')
    with pytest.raises(UserError, match='has no model'):
        count_config(path)
    # Its classifier wants 224 pixels: three poolings leave nothing of 16.
    path.write_text("""
default_scope = 'mmpretrain'
model = dict(
    type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.AlexNet', num_classes=10)
)
""")
    with pytest.raises(UserError, match=r'shape=\(16, 16\) does not fit'):
        count_config(path, (16, 16))


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        ('mobilenetv1_0.25_relu', (224, 224)),
        ('retinanet_r50_relu', (608, 1024)),  # 600 pixels, padded to a multiple of 32
        ('retinanet_r18_relu_digits', (160, 160)),
        ('pspnet_r50_relu', (1024, 2048)),
        ('resnet18_relu_digits', (224, 224)),  # its pipeline names no size
    ],
)
def test_the_size_of_an_image_is_that_of_the_test_pipeline(name, size):
    assert image_size(Config.fromfile(config_path(name))) == size
