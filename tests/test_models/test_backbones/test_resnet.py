import pytest
import torch
from mmpretrain.models import ResNet, SEResNet
from mmpretrain.models.utils import SELayer
from mmseg.models.backbones import ResNet as SegResNet
from torch import nn

from acon_mm.models import AconA, AconC, AconResNet, MetaAcon

RELU = dict(type='ReLU')
META = dict(type='acon_mm.MetaAcon')

# Millions of parameters with a classifier of 1000 classes.
PARAMETERS = {18: 11.9, 50: 25.7, 101: 44.9, 152: 60.7}


def randomise_norms(net):
    generator = torch.Generator().manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for value in (m.weight.data, m.bias.data, m.running_mean):
                value.normal_(generator=generator)
            m.running_var.uniform_(0.5, 2, generator=generator)
    return net


@pytest.mark.usefixtures('separate_norms')
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'args',
    [
        dict(depth=50),
        dict(depth=18),
        dict(depth=50, style='caffe'),
        dict(depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
        dict(depth=50, frozen_stages=1),
        dict(depth=50, norm_eval=True),
        dict(depth=18, deep_stem=True, avg_down=True),
    ],
    ids=str,
)
def test_with_relu_it_is_the_resnet_of_mmpretrain_bit_for_bit(args, training):
    args = dict(args, out_indices=(0, 1, 2, 3))
    theirs = randomise_norms(ResNet(**args))
    ours = AconResNet(act_cfg=RELU, **args)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    ours.train(training)
    theirs.train(training)
    x = torch.rand(2, 3, 64, 64)
    outs, references = ours(x), theirs(x)
    assert all(torch.equal(a, b) for a, b in zip(outs, references, strict=True))
    if training:
        sum(out.sum() for out in outs).backward()
        sum(out.sum() for out in references).backward()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert p.requires_grad == q.requires_grad, name
            assert p.grad is q.grad is None or torch.equal(p.grad, q.grad), name
    # The running statistics moved by the same amount, too.
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


@pytest.mark.usefixtures('separate_norms')
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'args',
    [
        dict(depth=50),
        dict(depth=50, style='caffe', se_ratio=8),
        pytest.param(dict(depth=101), marks=pytest.mark.slow),
        pytest.param(dict(depth=152), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_with_relu_and_se_it_is_the_seresnet_of_mmpretrain_bit_for_bit(args, training):
    args = dict(dict(se_ratio=16), **args, out_indices=(0, 1, 2, 3))
    theirs = randomise_norms(SEResNet(**args))
    ours = AconResNet(act_cfg=RELU, **args)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    ours.train(training)
    theirs.train(training)
    x = torch.rand(2, 3, 64, 64)
    outs, references = ours(x), theirs(x)
    assert all(torch.equal(a, b) for a, b in zip(outs, references, strict=True))
    if training:
        sum(out.sum() for out in outs).backward()
        sum(out.sum() for out in references).backward()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad), name


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('training', [True, False])
def test_norm_and_relu_in_one_give_the_resnet_of_mmpretrain_to_rounding(depth, training):
    theirs = randomise_norms(ResNet(depth)).double()
    ours = AconResNet(depth, act_cfg=RELU).double()
    ours.load_state_dict(theirs.state_dict())
    ours.train(training)
    theirs.train(training)
    x = torch.rand(2, 3, 64, 64, dtype=torch.double)
    out, reference = ours(x)[0], theirs(x)[0]
    torch.testing.assert_close(out, reference)
    out.sum().backward()
    reference.sum().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], msg=name)


@pytest.mark.parametrize('depth', [18, 50])
def test_each_block_has_squeeze_and_excitation_on_what_it_adds_to_the_shortcut(depth):
    net = randomise_norms(AconResNet(depth, act_cfg=META, se_ratio=16)).eval()
    blocks = [block for stage in net.res_layers for block in getattr(net, stage)]
    assert sum(isinstance(m, SELayer) for m in net.modules()) == len(blocks)
    block = blocks[1]
    x = torch.rand(2, block.in_channels, 8, 8)
    for p in block.se_layer.conv2.parameters():
        nn.init.zeros_(p)
    halved = block.residual(x) - x
    block.se_layer = nn.Identity()
    torch.testing.assert_close(2 * halved, block.residual(x) - x)


@pytest.mark.usefixtures('separate_norms')
def test_a_contracted_dilation_is_that_of_mmsegmentation():
    args = dict(depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True)
    theirs = randomise_norms(SegResNet(**args, style='pytorch'))
    ours = AconResNet(act_cfg=RELU, out_indices=(0, 1, 2, 3), **args)
    ours.load_state_dict(theirs.state_dict())
    ours.eval()
    theirs.eval()
    x = torch.rand(1, 3, 64, 64)
    for out, reference in zip(ours(x), theirs(x), strict=True):
        assert torch.equal(out, reference)
    assert ours.layer4[0].conv2.dilation == (2, 2)
    assert ours.layer4[1].conv2.dilation == (4, 4)


@pytest.mark.parametrize('depth', PARAMETERS)
def test_the_number_of_parameters_is_that_of_the_paper(depth):
    net = AconResNet(depth, act_cfg=META)
    total = sum(p.numel() for p in net.parameters()) + 1000 * (net.feat_dim + 1)
    assert abs(total / 1e6 - PARAMETERS[depth]) <= 0.1


def test_depth_wise_switching_factors_cost_ten_parameters_a_channel():
    plain = AconResNet(152, act_cfg=RELU)
    net = AconResNet(152, act_cfg=dict(META, depthwise=True))
    channels = 3 * 64 + 8 * 128 + 36 * 256 + 3 * 512
    # p1 and p2; weight and bias of two convolutions and of two norms.
    extra = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in plain.parameters())
    assert extra == 10 * channels == 119_680


def test_depth_wise_switching_factors_train():
    net = AconResNet(50, act_cfg=dict(META, depthwise=True))
    net(torch.rand(2, 3, 64, 64))[-1].square().sum().backward()
    assert net.layer1[0].act2.fc1.weight.shape == (64, 1, 1, 1)
    assert net.layer3[0].act2.fc2.weight.grad.any()


def replaced(net):
    """Return the names of the replaced activations, without the stage and block."""
    return {
        name.split('.', 2)[-1]
        for name, m in net.named_modules()
        if isinstance(m, (AconA, AconC, MetaAcon))
    }


@pytest.mark.parametrize(
    ('depth', 'placement', 'names'),
    [
        (50, None, {'act2'}),
        (50, 'one', {'act2'}),
        (50, 'all', {'act1', 'act2', 'act3'}),
        (18, None, {'act1', 'act2'}),
        (18, 'one', {'act1'}),
        (18, 'all', {'act1', 'act2'}),
    ],
)
def test_the_placement_says_which_activations_of_a_block_are_replaced(depth, placement, names):
    net = AconResNet(depth, act_cfg=META, placement=placement)
    assert replaced(net) == names
    blocks = sum(net.stage_blocks)
    assert sum(isinstance(m, MetaAcon) for m in net.modules()) == blocks * len(names)
    assert isinstance(net.relu, nn.ReLU), 'the stem keeps ReLU'


@pytest.mark.parametrize('kind', ['acon_mm.AconA', 'acon_mm.AconC'])
@pytest.mark.parametrize('depth', [18, 50])
def test_a_relu_checkpoint_starts_an_acon_network_as_that_network_with_swish(depth, kind):
    theirs = randomise_norms(ResNet(depth))
    ours = AconResNet(depth, act_cfg=dict(type=kind))
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all('.act' in key for key in missing)

    class SwishAfterTheSecondReLU(nn.Module):
        """Stand in for the one shared ReLU of mmpretrain's block, which is called in order."""

        def __init__(self, swish_calls, calls):
            super().__init__()
            self.swish_calls, self.calls, self.count = swish_calls, calls, 0

        def forward(self, x):
            at = self.count % self.calls
            self.count += 1
            return nn.functional.silu(x) if at in self.swish_calls else x.relu()

    for stage in theirs.res_layers:
        for block in getattr(theirs, stage):
            block.relu = SwishAfterTheSecondReLU(*(({0, 1}, 2) if depth == 18 else ({1}, 3)))
    ours.eval()
    theirs.eval()
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(x)[-1], theirs(x)[-1], rtol=1e-4, atol=1e-4)


def test_frozen_stages_and_norm_eval_reach_the_norms_inside_meta_acon():
    net = AconResNet(50, act_cfg=META, frozen_stages=1)
    net.train()
    assert not any(p.requires_grad for p in net.layer1.parameters())
    assert not any(m.training for m in net.layer1.modules())
    assert net.layer2[0].act2.bn1.training
    net = AconResNet(50, act_cfg=META, norm_eval=True)
    net.train()
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert net.layer2[0].act2.training


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('norm_eval', [True, False])
def test_recomputed_blocks_give_the_gradients_and_the_statistics_of_stored_ones(depth, norm_eval):
    torch.manual_seed(0)
    stored = AconResNet(depth, act_cfg=META, norm_eval=norm_eval)
    recomputed = AconResNet(depth, act_cfg=META, norm_eval=norm_eval, with_cp=True)
    recomputed.load_state_dict(stored.state_dict())
    x = torch.rand(2, 3, 64, 64)
    for net in (stored, recomputed):
        net.train()
        net(x)[-1].square().sum().backward()
    for (name, p), q in zip(stored.named_parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name
    for (name, value), other in zip(stored.named_buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(value, other), name
    assert recomputed.layer1[0].norm1.num_batches_tracked == int(not norm_eval)


@pytest.mark.usefixtures('separate_norms')
@pytest.mark.parametrize('out_indices', [(0,), (0, 1), [1]])
def test_stages_after_the_last_one_asked_for_are_not_run_and_get_no_gradients(out_indices):
    theirs = randomise_norms(ResNet(18, out_indices=out_indices))
    ours = AconResNet(18, act_cfg=RELU, out_indices=out_indices)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    unused = tuple(f'layer{i + 1}' for i in range(max(out_indices) + 1, 4))
    for name in unused:
        getattr(ours, name).register_forward_hook(lambda *_: pytest.fail('it was run'))
    ours.train()
    theirs.train()
    x = torch.rand(2, 3, 64, 64)
    outs = ours(x)
    assert all(torch.equal(a, b) for a, b in zip(outs, theirs(x), strict=True))
    sum(out.sum() for out in outs).backward()
    # DistributedDataParallel waits for every parameter that requires a gradient.
    for name, p in ours.named_parameters():
        assert (p.grad is not None) == p.requires_grad == (not name.startswith(unused)), name


def test_train_and_eval_return_the_network_as_every_module_does():
    net = AconResNet(18, act_cfg=RELU)
    assert net.eval() is net
    assert net.train() is net


def test_a_batch_of_one_sample_trains():
    net = AconResNet(50, act_cfg=META)
    net.train()
    net(torch.rand(1, 3, 64, 64))[-1].sum().backward()
    assert net.layer3[1].act2.fc1.weight.grad is not None


def test_initial_weights_leave_the_slopes_of_the_activations_alone():
    net = AconResNet(18, act_cfg=META)
    net.init_weights()
    assert (net.layer1[0].act1.p1 == 1).all()
    assert (net.layer1[0].act1.p2 == 0).all()
    assert (net.layer1[0].norm2.weight == 0).all(), 'zero_init_residual'


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(depth=20), 'depth must be one of 18, 34, 50, 101, 152, but it is 20'),
        (dict(placement='two'), "placement must be one of None, 'one', 'all', but it is 'two'"),
        (dict(se_ratio=0), 'se_ratio must be None or a positive integer, but it is 0'),
        (dict(se_ratio=True), 'se_ratio must be None or a positive integer, but it is True'),
        (dict(style='tf'), "style must be one of 'pytorch', 'caffe', but it is 'tf'"),
        (dict(frozen_stages=5), 'frozen_stages must be one of -1, 0, 1, 2, 3, 4, but it is 5'),
        (dict(out_indices=(0, 4)), 'out_indices must be one of 0, 1, 2, 3, but it is 4'),
        (dict(out_indices=3), r'out_indices must be a sequence .*such as \(3,\), but it is 3'),
        (dict(out_indices=()), r'out_indices must be a sequence .*such as \(3,\), but it is \(\)'),
        (dict(strides=1), 'strides must have one value for each of the 4 stages, but it is 1'),
        (dict(num_stages=0), 'num_stages must be one of 1, 2, 3, 4, but it is 0'),
        (dict(strides=(1, 2)), r'strides must have one value for each of the 4 stages'),
        (dict(dilations=(1,)), r'dilations must have one value for each of the 4 stages'),
        (dict(act_cfg=dict(kind='ReLU')), "act_cfg must be a dict with the key 'type'"),
        (dict(act_cfg=dict(type='Acon')), "'Acon', which is not registered: use one of acon_mm"),
    ],
)
def test_a_bad_argument_is_refused_with_the_accepted_values(args, message):
    with pytest.raises(ValueError, match=message):
        AconResNet(**dict(dict(depth=50), **args))
