"""The authors' networks, written out as functional calls on a flat state dict in their layout.

Nothing of acon_mm is used to compute the logits that a converted file has to give, and nothing of
the authors' code: the networks are stated here from their description. All is float64, because
random networks this deep enlarge the rounding of float32 up to a tenth of the logits.
"""

import re

import pytest
import torch
from mmengine.runner import load_checkpoint
from torch.nn import functional as F

from acon_mm.apis.conversion import convert_official
from acon_mm.apis.models import get_model

# Millions of parameters, the biases before the norms included.
PARAMETERS = {
    'resnet18_aconc': None,  # not stated
    'resnet50_aconc': 25.595,
    'resnet101_aconc': 44.626,
    'resnet152_aconc': 60.304,
    'resnet50_metaacon': 25.773,
    'resnet101_metaacon': 44.953,
    'resnet152_metaacon': 60.763,
    'shufflenetv2_0.5x_aconc': 1.380,
    'shufflenetv2_1.0x_aconc': 2.305,
    'shufflenetv2_1.5x_aconc': 3.543,
    'shufflenetv2_2.0x_aconc': 7.456,
    'shufflenetv2_0.5x_metaacon': 1.687,
    'shufflenetv2_1.0x_metaacon': 2.596,
    'shufflenetv2_1.5x_metaacon': 3.954,
    'shufflenetv2_2.0x_metaacon': 8.438,
    'tfnet_0.5': 1.345,
    'tfnet_1.0': 1.923,
    'tfnet_1.5': 2.779,
    'tfnet_2.0': 3.911,
}
QUICK = ['resnet18_aconc', 'resnet50_metaacon', 'shufflenetv2_0.5x_metaacon', 'tfnet_0.5']

RESNET_BLOCKS = {
    18: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
SHUFFLENET_CHANNELS = {
    '0.5': (24, 48, 96, 192, 1024),
    '1.0': (24, 116, 232, 464, 1024),
    '1.5': (24, 176, 352, 704, 1024),
    '2.0': (24, 244, 488, 976, 2048),
}


class Layers:
    """Layers of the authors' networks, which draw the values that the state dict lacks.

    The statistics of a norm are drawn around those of the map that it gets, so that activations
    stay of order 1 however deep the network is.
    """

    def __init__(self, state, meta, reduction):
        self.state, self.meta, self.reduction = state, meta, reduction
        self.generator = torch.Generator().manual_seed(0)

    def normal(self, name, shape, mean=0.0, std=1.0):
        values = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return self.state.setdefault(name, values * std + mean)

    def uniform(self, name, scale):
        values = torch.rand(scale.shape, generator=self.generator, dtype=torch.float64)
        return self.state.setdefault(name, (values * 1.5 + 0.5) * scale)

    def conv(self, name, x, out, kernel, stride=1, groups=1):
        fan = x.size(1) // groups * kernel**2
        weight = self.normal(
            f'{name}.weight', (out, x.size(1) // groups, kernel, kernel), 0, fan**-0.5
        )
        bias = self.normal(f'{name}.bias', (out,))
        return F.conv2d(x, weight, bias, stride, kernel // 2, groups=groups)

    def norm(self, name, x):
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        weight = self.uniform(f'{name}.weight', torch.ones_like(var))
        bias = self.normal(f'{name}.bias', var.shape, 0, 0.5)
        mean = self.normal(f'{name}.running_mean', var.shape, mean, var.sqrt() / 2)
        var = self.uniform(f'{name}.running_var', var + 0.1)
        self.state.setdefault(f'{name}.num_batches_tracked', torch.tensor(7))
        return F.batch_norm(x, mean, var, weight, bias, training=False)

    def acon(self, name, x):
        shape = (1, x.size(1), 1, 1)
        p1, p2 = self.normal(f'{name}.p1', shape), self.normal(f'{name}.p2', shape)
        if self.meta:
            hidden = max(self.reduction, x.size(1) // self.reduction)
            beta = x.mean(2, keepdim=True).mean(3, keepdim=True)
            beta = self.norm(f'{name}.bn1', self.conv(f'{name}.fc1', beta, hidden, 1))
            beta = self.norm(f'{name}.bn2', self.conv(f'{name}.fc2', beta, x.size(1), 1))
            beta = beta.sigmoid()
        else:
            beta = self.normal(f'{name}.beta', shape, 1)
        return (p1 - p2) * x * (beta * (p1 - p2) * x).sigmoid() + p2 * x

    def acon_frelu(self, name, x, stride=1):
        x1 = F.max_pool2d(x, 3, 2, 1) if stride == 2 else x
        width = x.size(1)
        x2 = self.conv(f'{name}.conv_frelu', x, width, 3, stride, groups=width)
        x2 = self.norm(f'{name}.bn1', x2)
        return self.norm(f'{name}.bn2', (x1 - x2) * (x1 - x2).sigmoid() + x2)

    def linear(self, name, x):
        weight = self.normal(f'{name}.weight', (1000, x.size(1)), 0, x.size(1) ** -0.5)
        return F.linear(x, weight, self.normal(f'{name}.bias', (1000,)))


def resnet(layers, x, depth):
    x = F.relu(layers.norm('bn1', layers.conv('conv1', x, 64, 7, 2)))
    x = F.max_pool2d(x, 3, 2, 1)
    block = basic_block if depth < 50 else bottleneck
    for stage, blocks in enumerate(RESNET_BLOCKS[depth]):
        for index in range(blocks):
            stride = 2 if stage and not index else 1
            x = block(layers, f'layer{stage + 1}.{index}', x, 64 * 2**stage, stride)
    return layers.linear('fc', x.mean((2, 3)))


def basic_block(layers, name, x, width, stride):
    out = layers.norm(f'{name}.bn1', layers.conv(f'{name}.conv1', x, width, 3, stride))
    out = layers.acon(f'{name}.acon1', out)
    out = layers.norm(f'{name}.bn2', layers.conv(f'{name}.conv2', out, width, 3))
    return layers.acon(f'{name}.acon2', out + shortcut(layers, name, x, width, stride))


def bottleneck(layers, name, x, width, stride):
    out = layers.norm(f'{name}.bn1', layers.conv(f'{name}.conv1', x, width, 1, stride))
    out = layers.norm(f'{name}.bn2', layers.conv(f'{name}.conv2', F.relu(out), width, 3))
    out = layers.acon(f'{name}.acon', out)
    out = layers.norm(f'{name}.bn3', layers.conv(f'{name}.conv3', out, 4 * width, 1))
    return F.relu(out + shortcut(layers, name, x, 4 * width, stride))


def shortcut(layers, name, x, width, stride):
    if stride == 1 and x.size(1) == width:
        return x
    projected = layers.conv(f'{name}.downsample.0', x, width, 1, stride)
    return layers.norm(f'{name}.downsample.1', projected)


def shufflenet_v2(layers, x, width):
    channels = SHUFFLENET_CHANNELS[width]

    def unit(name, first, x, out, kernel, stride=1):
        x = layers.conv(f'{name}.{first}', x, out, kernel, stride)
        return layers.acon(f'{name}.{first + 2}', layers.norm(f'{name}.{first + 1}', x))

    def depthwise(name, first, x, stride):
        x = layers.conv(f'{name}.{first}', x, x.size(1), 3, stride, groups=x.size(1))
        return layers.norm(f'{name}.{first + 1}', x)

    x = F.max_pool2d(unit('first_conv', 0, x, channels[0], 3, 2), 3, 2, 1)
    index = 0
    for out, blocks in zip(channels[1:4], (4, 8, 4), strict=True):
        for block in range(blocks):
            name, stride = f'features.{index}', 1 if block else 2
            if stride == 1:
                identity, x = x[:, 0::2], x[:, 1::2]
            else:
                identity = depthwise(f'{name}.branch_proj', 0, x, 2)
                identity = unit(f'{name}.branch_proj', 2, identity, x.size(1), 1)
            main = unit(f'{name}.branch_main', 0, x, out // 2, 1)
            main = depthwise(f'{name}.branch_main', 3, main, stride)
            main = unit(f'{name}.branch_main', 5, main, out - identity.size(1), 1)
            x = torch.cat((identity, main), 1)
            index += 1
    x = unit('conv_last', 0, x, channels[4], 1)
    return layers.linear('classifier.0', x.mean((2, 3)))


def tfnet(layers, x, width):
    channels = int(16 * float(width))
    x = layers.conv('first_conv.0', x, channels, 3, 2)
    x = F.relu(layers.norm('first_conv.1', x))
    index = 0
    for blocks in (2, 3, 8, 3):
        for block in range(blocks):
            name, channels = f'features.{index}', x.size(1)
            main = layers.conv(f'{name}.branch_main.0', x, channels, 1)
            main = layers.norm(f'{name}.branch_main.1', main)
            main = layers.acon_frelu(f'{name}.branch_main.2', main)
            main = layers.conv(f'{name}.branch_main.3', main, channels, 1)
            main = layers.norm(f'{name}.branch_main.4', main)
            x = x + main if block else torch.cat((x, main), 1)
            x = layers.acon_frelu(f'{name}.acon', x, 1 if block else 2)
            index += 1
    x = layers.norm('conv_last.1', layers.conv('conv_last.0', x, 1024, 1))
    x = layers.acon_frelu('conv_last.2', x)
    return layers.linear('classifier.0', x.mean((2, 3)))


def run(name, images, state):
    """Return the logits of a state dict of the authors' layout; what it lacks is drawn."""
    family, size = re.match(r'(resnet|shufflenetv2_|tfnet_)([\d.]+)', name).groups()
    meta, reduction = name.endswith('metaacon'), 8 if size == '0.5' else 16
    layers = Layers(state, meta, reduction)
    if family == 'resnet':
        return resnet(layers, images, int(size))
    return (tfnet if family == 'tfnet_' else shufflenet_v2)(layers, images, size)


def is_parameter(name):
    return not name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))


def relative_error(logits, reference):
    return (logits - reference).abs().max() / reference.abs().max()


each_network = pytest.mark.parametrize(
    'name',
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PARAMETERS],
)


@each_network
def test_the_networks_written_out_here_have_the_authors_number_of_parameters(name):
    state = {}
    run(name, torch.rand(1, 3, 32, 32).double(), state)
    count = sum(value.numel() for key, value in state.items() if is_parameter(key))
    assert PARAMETERS[name] in (None, round(count / 1e6, 3))


@each_network
def test_a_converted_file_gives_the_authors_logits_and_so_does_one_converted_back(tmp_path, name):
    src, dst, back = (str(tmp_path / file) for file in ('src.pth', 'dst.pth', 'back.pth'))
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, 64, 64, generator=generator, dtype=torch.float64) * 255
    state = {}
    logits = run(name, images, state)
    assert 0.3 < (logits[0] - logits[1]).std() < 3, 'the logits have to depend on the images'
    torch.save(state, src)

    convert_official(src, dst, name)
    net = get_model(name).double().eval()
    load_checkpoint(net, dst, strict=True)
    with torch.no_grad():
        assert relative_error(net(images, mode='tensor'), logits) < 1e-8

    convert_official(dst, back, name, reverse=True)
    restored = torch.load(back, weights_only=True)['state_dict']
    assert {k: v.shape for k, v in restored.items()} == {k: v.shape for k, v in state.items()}
    assert relative_error(run(name, images, restored), logits) < 1e-8
