"""The segmentation configs are the setting of Table 10 of the paper."""

import re

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmseg.models.decode_heads import FCNHead, PSPHead
from mmseg.registry import DATASETS, MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from acon_mm import config_path
from acon_mm.apis import get_model
from acon_mm.datasets import BuildOptions, build_digit_scenes
from acon_mm.datasets.digit_scenes import BACKGROUND
from acon_mm.datasets.digit_writers import CLASSES
from acon_mm.models import AconA, MetaAcon

ROWS = {'r50_relu': None, 'r50_swish': AconA, 'r50_metaacon': MetaAcon}
ALL = [*ROWS, 'shufflenetv2_0.5x_metaacon']
DIGITS = ('relu', 'swish', 'metaacon')


@pytest.fixture(scope='module', autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def digit_scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'digit_scenes'
    options = BuildOptions(num_train=3, num_val=1, num_train_crops=1, num_val_crops=1)
    build_digit_scenes(out, options, log=lambda line: None)
    return out


def load(name):
    return Config.fromfile(config_path(f'segmentation/pspnet_{name}.py'))


@pytest.fixture(scope='module')
def built():
    """Build each model once: they have 50 million parameters."""
    models = {}

    def build(name):
        if name not in models:
            cfg = load(name)
            cfg.model.backbone.init_cfg = None
            models[name] = MODELS.build(cfg.model)
        return models[name]

    return build


@pytest.mark.parametrize(('name', 'kind'), ROWS.items())
def test_each_row_replaces_the_activation_after_the_3x3_convolution(built, name, kind):
    own = {n: m for n, m in built(name).named_modules() if isinstance(m, (AconA, MetaAcon))}
    assert len(own) == (16 if kind else 0)
    assert all(re.fullmatch(r'backbone\.layer\d\.\d\.act2', n) for n in own)
    assert all(type(m) is kind for m in own.values())


@pytest.mark.parametrize('name', ALL)
def test_every_batch_norm_is_synchronised_also_inside_meta_acon(built, name):
    norms = {n: m for n, m in built(name).named_modules() if isinstance(m, _BatchNorm)}
    assert all(isinstance(m, nn.SyncBatchNorm) for m in norms.values())
    meta = [n for n, m in built(name).named_modules() if isinstance(m, MetaAcon)]
    assert {f'{n}.{norm}' for n in meta for norm in ('bn1', 'bn2')} <= set(norms)
    assert bool(meta) == name.endswith('metaacon')
    for part in ('backbone.', 'decode_head.', 'auxiliary_head.'):
        assert any(n.startswith(part) for n in norms)


@pytest.mark.parametrize('name', ALL)
def test_it_is_a_pspnet_of_output_stride_8_with_an_auxiliary_head(built, name):
    model = built(name)
    assert isinstance(model.decode_head, PSPHead)
    assert model.decode_head.pool_scales == (1, 2, 3, 6)
    assert isinstance(model.auxiliary_head, FCNHead)
    assert model.auxiliary_head.loss_decode.loss_weight == 0.4
    assert model.decode_head.loss_decode.loss_weight == 1
    assert model.test_cfg.mode == 'whole'
    with torch.no_grad():
        features = model.eval().extract_feat(torch.rand(1, 3, 64, 96))
        for head in (model.decode_head, model.auxiliary_head):
            assert features[head.in_index].shape[1:] == (head.in_channels, 8, 12)
            assert head(features).shape == (1, 19, 8, 12)
    # The auxiliary head looks at the stage before the last one.
    assert model.auxiliary_head.in_index == model.decode_head.in_index - 1 == len(features) - 2


@pytest.mark.parametrize('name', ALL)
def test_the_input_is_that_of_the_authors_networks(built, name):
    preprocessor = built(name).data_preprocessor
    assert not preprocessor.mean.any()
    assert (preprocessor.std == 1).all()
    assert not preprocessor.channel_conversion
    if name in ROWS:
        # The stride stands in the first 1×1 convolution.
        assert built(name).backbone.layer2[0].conv1.stride == (2, 2)
        assert built(name).backbone.layer2[0].conv2.stride == (1, 1)


@pytest.mark.parametrize('name', ALL)
def test_the_setting_is_that_of_the_paper(name):
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(type='mmengine.SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
    (schedule,) = cfg.param_scheduler
    assert (schedule.type, schedule.power, schedule.by_epoch) == ('mmengine.PolyLR', 0.9, False)
    assert 'end' not in schedule  # it lasts as long as the training
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    steps = {step.type.rpartition('.')[2]: step for step in cfg.train_pipeline}
    assert {'RandomFlip', 'PhotoMetricDistortion'} <= set(steps)
    assert steps['RandomResize'].ratio_range == (0.5, 2.0)
    assert steps['RandomCrop'].crop_size == cfg.model.data_preprocessor.size == (512, 1024)
    for loader, split in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'val')):
        assert loader.dataset.type == 'mmseg.CityscapesDataset'
        assert loader.dataset.data_prefix.img_path == f'leftImg8bit/{split}'
    assert cfg.val_evaluator.iou_metrics == ['mIoU']


def parts(node):
    """Leave out of a config which library its types belong to."""
    if isinstance(node, dict):
        return {k: v.rpartition('.')[2] if k == 'type' else parts(v) for k, v in node.items()}
    return [parts(v) for v in node] if isinstance(node, (list, tuple)) else node


@pytest.mark.parametrize('name', ALL)
def test_what_the_paper_leaves_open_is_mmsegs_pspnet(name):
    cfg = load(name)
    theirs = get_config('mmseg::pspnet/pspnet_r50-d8_4xb2-80k_cityscapes-512x1024.py')
    for pipeline in ('train_pipeline', 'test_pipeline'):
        assert parts(cfg[pipeline]) == parts(theirs[pipeline])
    sizes, flips, *_ = cfg.tta_pipeline[1].transforms
    their_sizes, their_flips, *_ = theirs.tta_pipeline[1].transforms
    assert parts(sizes) == parts(their_sizes)
    assert [flip.prob for flip in flips] == [flip.prob for flip in their_flips]
    assert cfg.param_scheduler[0].eta_min == theirs.param_scheduler[0].eta_min
    # As many crops: twice the batch, half of the iterations.
    crops = cfg.train_cfg.max_iters * cfg.auto_scale_lr.base_batch_size
    assert crops == theirs.train_cfg.max_iters * 4 * theirs.train_dataloader.batch_size
    same = dict(in_channels=0, in_index=0, norm_cfg=0)  # the backbone decides them
    for head in ('decode_head', 'auxiliary_head'):
        assert parts(cfg.model[head] | same) == parts(theirs.model[head] | same)


def test_weight_decay_spares_the_activations_but_for_their_two_layers(built):
    model = built('r50_metaacon')
    optimizer = build_optim_wrapper(model, load('r50_metaacon').optim_wrapper).optimizer
    decay = {id(p): g['weight_decay'] for g in optimizer.param_groups for p in g['params']}
    named = dict(model.named_parameters())
    assert {id(p) for p in named.values()} == set(decay)  # nothing is frozen
    for name, parameter in named.items():
        decayed = name.endswith('.weight') and parameter.dim() > 1
        assert decay[id(parameter)] == (1e-4 if decayed else 0), name
    inside = {name.rpartition('act2.')[2]: decay[id(p)] for name, p in named.items()}
    assert [inside[key] for key in ('p1', 'p2', 'fc1.weight', 'fc2.weight')] == [0, 0, 1e-4, 1e-4]


def test_larger_steps_of_the_heads_leave_the_activations_of_digits_without_decay():
    cfg = load('r18_metaacon_digits')
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    groups = {id(p): g for g in optimizer.param_groups for p in g['params']}
    lr = cfg.optim_wrapper.optimizer.lr
    for name, parameter in model.named_parameters():
        if id(parameter) not in groups:
            assert not parameter.requires_grad  # the stage that is not run
            continue
        group = groups[id(parameter)]
        assert group['lr'] == pytest.approx(lr if name.startswith('backbone.') else 3 * lr), name
        if name.endswith(('.p1', '.p2')):
            assert group['weight_decay'] == 0


@pytest.mark.parametrize('activation', DIGITS)
def test_the_digits_are_read_with_their_own_class_names(activation, digit_scenes):
    """The labels that the network learns are those that DigitScenes wrote."""
    cfg = load(f'r18_{activation}_digits')
    options = dict(cfg.train_dataloader.dataset, data_root=str(digit_scenes))
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(options)
    assert len(dataset) == len(list((digit_scenes / 'leftImg8bit/train/digits').iterdir()))
    assert dataset.metainfo['classes'] == (*CLASSES, 'background')
    assert len(dataset.metainfo['palette']) == BACKGROUND + 1
    heads = (cfg.model.decode_head, cfg.model.auxiliary_head)
    assert [head.num_classes for head in heads] == [BACKGROUND + 1] * 2
    sample = dataset[0]
    written = digit_scenes / 'gtFine/train/digits/digits_000001_gtFine_labelTrainIds.png'
    truth = cv2.imread(str(written), cv2.IMREAD_UNCHANGED)
    assert len(set(truth.flat)) > 1
    assert (sample['data_samples'].gt_sem_seg.data[0].numpy() == truth).all()


@pytest.mark.parametrize('activation', DIGITS)
def test_digits_are_never_mirrored(activation):
    cfg = load(f'r18_{activation}_digits')
    assert not [step for step in cfg.train_pipeline if step.type.endswith('RandomFlip')]
    sizes, flips, *_ = cfg.tta_pipeline[1].transforms
    assert len(sizes) > 1
    assert [flip.prob for flip in flips] == [0]


def test_a_segmentor_is_built_by_its_name_and_segments():
    model = get_model('pspnet_shufflenetv2_0.5x_metaacon')
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 96)).shape == (1, 19, 8, 12)


@pytest.mark.parametrize('name', ['r50_metaacon', 'shufflenetv2_0.5x_metaacon'])
def test_one_variable_sets_the_pretrained_checkpoint(name, monkeypatch):
    checkpoint = load(name).model.backbone.init_cfg.checkpoint
    assert checkpoint == f'checkpoints/{name.replace("r50", "resnet50")}.pth'
    monkeypatch.setenv('ACON_MM_PRETRAINED', '/elsewhere/mine.pth')
    assert load(name).model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint='/elsewhere/mine.pth', prefix='backbone.'
    )
