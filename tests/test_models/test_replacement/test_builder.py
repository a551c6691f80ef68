"""A config replaces the activations of a part or of a whole model of any library."""

import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from acon_mm.errors import UserError
from acon_mm.models.activations.acon import ChannelActivation

META = dict(type='acon_mm.MetaAcon')
RESNET = dict(type='mmdet.ResNet', depth=18, base_channels=8, stem_channels=8)
RETINANET = dict(
    type='mmdet.RetinaNet',
    backbone=RESNET,
    neck=dict(type='mmdet.FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5),
    bbox_head=dict(
        type='mmdet.RetinaHead', num_classes=2, in_channels=16, feat_channels=16, stacked_convs=2
    ),
    train_cfg=dict(assigner=dict(type='mmdet.MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4)),
)
SEGMENTOR = dict(
    type='mmseg.EncoderDecoder',
    backbone=dict(RESNET, type='mmseg.ResNet'),
    decode_head=dict(type='mmseg.PSPHead', in_channels=64, in_index=3, channels=16, num_classes=3),
    auxiliary_head=dict(
        type='mmseg.FCNHead', in_channels=32, in_index=2, channels=8, num_classes=3
    ),
)


def replaced(module, **kwargs):
    return dict(type='acon_mm.ReplaceActivations', module=module, act_cfg=META, **kwargs)


def acons(network):
    return [n for n, m in network.named_modules() if isinstance(m, ChannelActivation)]


def test_a_backbone_a_head_and_a_whole_model_get_the_same_places():
    whole = MODELS.build(replaced(RETINANET))
    parts = MODELS.build(
        dict(
            RETINANET,
            backbone=replaced(RETINANET['backbone']),
            bbox_head=replaced(RETINANET['bbox_head']),
        )
    )
    # 17 of the ResNet and 2 * 2 of the head; this FPN has none.
    assert len(acons(whole)) == 21
    assert acons(whole) == acons(parts)
    assert whole.state_dict().keys() == parts.state_dict().keys()


def test_a_detector_hands_its_settings_on_to_the_head():
    model = MODELS.build(dict(RETINANET, bbox_head=replaced(RETINANET['bbox_head'])))
    assert model.bbox_head.train_cfg == RETINANET['train_cfg']
    assert type(model.bbox_head).__name__ == 'RetinaHead'


def test_a_type_alone_leaves_the_other_keys_where_a_config_inherits_them():
    cfg = dict(RETINANET, type='acon_mm.ReplaceActivations', module='mmdet.RetinaNet')
    model = MODELS.build(dict(cfg, act_cfg=META))
    assert acons(model) == acons(MODELS.build(replaced(RETINANET)))


def test_the_data_preprocessor_of_the_module_comes_before_that_of_a_runner():
    own = dict(type='mmdet.DetDataPreprocessor', pad_size_divisor=8)
    model = MODELS.build(
        replaced(
            dict(RETINANET, data_preprocessor=own),
            data_preprocessor=dict(own, pad_size_divisor=16),
            where='bbox_head.*',
        )
    )
    assert model.data_preprocessor.pad_size_divisor == 8


def test_all_heads_of_a_segmentor_are_run():
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(replaced(SEGMENTOR))
    names = acons(model)
    assert any(name.startswith('auxiliary_head.') for name in names)
    assert sum(name.startswith('decode_head.') for name in names) == 5


def test_an_input_shape_is_taken_from_the_config():
    lenet = dict(type='mmpretrain.LeNet5', num_classes=10)
    model = MODELS.build(replaced(lenet, input_shape=(1, 32, 32), replace='Tanh'))
    assert acons(model) == ['features.1', 'features.4', 'features.7', 'classifier.1']


def test_pretrained_weights_of_the_stock_backbone_load_with_a_warning(tmp_path, caplog):
    stock = MODELS.build(RESNET)
    torch.save({'state_dict': stock.state_dict()}, tmp_path / 'stock.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'stock.pth'))
    model = MODELS.build(replaced(dict(RESNET, init_cfg=init_cfg)))
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        model.init_weights()
    finally:
        logger.removeHandler(caplog.handler)
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [text for text in said if '17 activations of ResNet' in text]
    state = model.state_dict()
    for key, value in stock.state_dict().items():
        assert torch.equal(state[key], value)


def test_an_activation_without_a_width_names_the_builder():
    with pytest.raises(UserError, match=r"acon_mm\.ReplaceActivations', module=dict\("):
        MODELS.build(dict(type='mmdet.CSPNeXt', widen_factor=0.125, act_cfg=META))


CONFIGS = {
    'detection/rtmdet_tiny_metaacon_coco.py': 76,
    'detection/yolox_s_metaacon_coco.py': 74,
    'detection/retinanet_swin-t_metaacon_coco.py': 20,
    'segmentation/segformer_mit-b0_metaacon_cityscapes.py': 13,
}


@pytest.mark.parametrize('config', CONFIGS)
def test_a_config_replaces_all_and_decays_no_parameter_of_an_activation(config, repo_root):
    path = repo_root / 'configs' / config
    assert len(path.read_text().splitlines()) <= 15
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        stock = MODELS.build(stock_cfg(cfg.model))
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert len(acons(model)) == CONFIGS[config]
    slopes = {
        id(getattr(module, name))
        for module in model.modules()
        if isinstance(module, ChannelActivation)
        for name in ('p1', 'p2')
    }
    decays = {
        id(param): group['weight_decay']
        for group in wrapper.optimizer.param_groups
        for param in group['params']
    }
    assert {decays[slope] for slope in slopes} == {0}
    # Random weights in the stock layout: nothing but activations is missing.
    missing = model.load_state_dict(stock.state_dict(), strict=False)
    assert not missing.missing_keys and not missing.unexpected_keys


def stock_cfg(cfg):
    """Return the config of the model as its library has it."""
    stock = dict(cfg, type=cfg.module)
    return {key: value for key, value in stock.items() if key not in ('module', 'act_cfg')}
