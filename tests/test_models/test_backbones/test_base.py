import pytest
import torch
from mmdet.registry import MODELS as DETECTORS
from mmdet.structures import DetDataSample
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from acon_mm.models.backbones.base import StagedBackbone, act_cfgs, check_width
from acon_mm.models.layers import ConvNormAct

META = dict(type='acon_mm.MetaAcon')


def build(**kwargs):
    """Return a network of a stem, two stages of two blocks, and a stage of one block."""
    torch.manual_seed(0)

    def conv(in_channels, stride=1):
        return ConvNormAct(in_channels, 4, 3, stride=stride, act_cfg=META)

    return StagedBackbone(
        {'conv1': conv(3, 2), 'pool': nn.MaxPool2d(2)},
        {
            'layer1': nn.Sequential(conv(4), conv(4)),
            'layer2': nn.Sequential(conv(4, 2), conv(4)),
            'last': conv(4),
        },
        **dict(dict(out_indices=(0, 1, 2)), **kwargs),
    )


def parts(net):
    return [net.conv1, net.layer1, net.layer2, net.last]


def test_outputs_are_those_of_the_stages_asked_for_in_their_order():
    x = torch.rand(2, 3, 32, 32)
    net = build().eval()
    stem = net.pool(net.conv1(x))
    expected = [net.layer1(stem)]
    expected += [net.layer2(expected[0])]
    expected += [net.last(expected[1])]
    assert all(torch.equal(a, b) for a, b in zip(net(x), expected, strict=True))
    outs = build(out_indices=[2, 0]).eval()(x)
    assert torch.equal(outs[0], expected[0])
    assert torch.equal(outs[1], expected[2])


def test_names_of_layers_are_prefixes_of_the_keys():
    keys = list(build().state_dict())
    assert keys[0] == 'conv1.conv.weight'
    assert 'layer2.1.activate.fc1.weight' in keys
    assert 'last.bn.running_mean' in keys


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 2, 3])
def test_frozen_stages_get_no_gradients_and_stay_in_eval_mode(frozen_stages):
    net = build(frozen_stages=frozen_stages)
    for moment in ('built', 'in training'):
        for index, part in enumerate(parts(net)):
            frozen = index <= frozen_stages
            assert all(p.requires_grad != frozen for p in part.parameters()), moment
            assert all(m.training != frozen for m in part.modules()), moment
        net.train()


def test_with_norm_eval_all_batch_norms_and_nothing_else_stay_in_eval_mode():
    net = build(norm_eval=True).train()
    for module in net.modules():
        assert module.training != isinstance(module, _BatchNorm)
    assert not net.layer1[0].activate.bn1.training, 'the norms inside Meta-ACON included'


def test_stages_after_the_last_one_asked_for_are_not_run_and_get_no_gradients():
    net = build(out_indices=(0,))
    net.layer2.register_forward_hook(lambda *_: pytest.fail('layer2 was run'))
    net.train()
    sum(out.sum() for out in net(torch.rand(2, 3, 32, 32))).backward()
    # DistributedDataParallel waits for every parameter that requires a gradient.
    for name, p in net.named_parameters():
        assert (p.grad is not None) == p.requires_grad == (not name.startswith(('layer2', 'last')))


def test_recomputed_blocks_give_the_gradients_and_the_statistics_of_stored_ones():
    stored, recomputed = build().train(), build(with_cp=True).train()
    calls = []
    recomputed.layer1[0].register_forward_pre_hook(lambda *_: calls.append(1))
    x = torch.rand(2, 3, 32, 32)
    for net in (stored, recomputed):
        sum(out.square().sum() for out in net(x)).backward()
    assert len(calls) == 2
    for (name, p), q in zip(stored.named_parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name
    for name, value in stored.state_dict().items():
        assert torch.equal(value, recomputed.state_dict()[name]), name


@pytest.mark.parametrize('width', [True, float('nan'), float('inf'), -1.0, 0, '1', None])
def test_a_width_that_is_no_positive_finite_number_is_refused(width):
    with pytest.raises(ValueError, match=r'widen_factor must be a positive.* such as 0\.25'):
        check_width(width)


def test_train_and_eval_return_the_network_as_every_module_does():
    net = build()
    assert net.eval() is net
    assert net.train() is net


@pytest.mark.parametrize(
    ('placement', 'kinds'), [('one', ['ReLU6', 'X', 'ReLU6']), ('all', ['X', 'X', 'X'])]
)
def test_the_placement_says_which_of_a_blocks_activations_are_replaced(placement, kinds):
    cfgs = act_cfgs(dict(type='X'), placement, 'ReLU6', count=3, replaced=1)
    assert [cfg['type'] for cfg in cfgs] == kinds


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(frozen_stages=4), 'frozen_stages must be one of -1, 0, 1, 2, 3, but it is 4'),
        (dict(out_indices=(0, 3)), 'out_indices must be one of 0, 1, 2, but it is 3'),
        (dict(out_indices=(-1,)), 'out_indices must be one of 0, 1, 2, but it is -1'),
        (dict(out_indices=2), r'such as \(2,\), but it is 2'),
        (dict(out_indices=()), r'such as \(2,\), but it is \(\)'),
    ],
)
def test_a_bad_argument_is_refused_with_the_accepted_values(args, message):
    with pytest.raises(ValueError, match=message):
        build(**args)


@pytest.mark.parametrize(
    ('backbone', 'in_channels'),
    [
        (dict(type='acon_mm.AconShuffleNetV2', widen_factor=0.5, out_indices=(0, 1, 2)),
         [48, 96, 192]),
        (dict(type='acon_mm.AconMobileNetV1', widen_factor=0.25, out_indices=(2, 3, 4)),
         [64, 128, 256]),
        (dict(type='acon_mm.AconMobileNetV2', widen_factor=0.17, out_indices=(2, 4, 6)),
         [8, 16, 56]),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)  # fmt: skip
def test_a_detector_trains_on_it_and_leaves_no_parameter_without_gradient(backbone, in_channels):
    anchors = dict(
        type='AnchorGenerator',
        octave_base_scale=4,
        scales_per_octave=1,
        ratios=[1.0],
        strides=[8, 16, 32],
    )
    detector = DETECTORS.build(
        dict(
            type='mmdet.RetinaNet',
            backbone=dict(**backbone, frozen_stages=1, norm_eval=True, with_cp=True),
            neck=dict(type='mmdet.FPN', in_channels=in_channels, out_channels=16, num_outs=3),
            bbox_head=dict(
                type='mmdet.RetinaHead',
                num_classes=2,
                in_channels=16,
                feat_channels=16,
                stacked_convs=1,
                anchor_generator=anchors,
            ),
            train_cfg=dict(
                assigner=dict(type='mmdet.MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4),
                sampler=dict(type='mmdet.PseudoSampler'),
                allowed_border=-1,
                pos_weight=-1,
            ),
        )
    )
    detector.init_weights()
    detector.train()
    boxes = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]))
    sample = DetDataSample(
        gt_instances=boxes, metainfo=dict(img_shape=(64, 64), pad_shape=(64, 64))
    )
    losses = detector.loss(torch.rand(1, 3, 64, 64), [sample])
    sum(sum(values) for values in losses.values()).backward()
    for name, p in detector.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
    assert not detector.backbone.layer1[0].training


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='acon_mm.AconResNet', depth=18),
        dict(type='acon_mm.AconResNet', depth=50, base_channels=8, stem_channels=8),
        dict(type='acon_mm.AconShuffleNetV2', widen_factor=0.5),
    ],
    ids=['resnet18', 'resnet50', 'shufflenetv2'],
)
def test_learning_rates_that_decay_with_the_depth_follow_the_order_of_the_layers(backbone):
    model = CLASSIFIERS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=backbone,
            head=dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=8),
        )
    )
    optimizer = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1),
            constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.5),
        ),
    )
    groups = optimizer.optimizer.param_groups
    assert [g['params'][0] for g in groups] == list(model.parameters())
    rates = [group['lr'] for group in groups]
    assert rates == sorted(rates)  # parameters are in the order of the forward pass
    assert rates[0] == 0.5 ** (len(set(rates)) - 1)
    assert [g['lr'] for g in groups if g['param_name'].startswith('head.')] == [1.0, 1.0]
    assert all(a == 2 * b for b, a in zip(*[sorted(set(rates))[i:] for i in (0, 1)], strict=False))
