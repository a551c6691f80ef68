"""A backbone is changed in a config of five lines that inherits the RetinaNet of Table 9."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from acon_mm import config_path
from acon_mm.models.backbones import senet

CONFIG = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(_delete_=True, frozen_stages=1, {backbone}),
    neck=dict(in_channels={channels}, start_level=0))
"""

BACKBONES = {
    'mobilenetv1': (
        "type='acon_mm.AconMobileNetV1', widen_factor=0.25, out_indices=(2, 3, 4)",
        [64, 128, 256],
    ),
    'mobilenetv2': (
        "type='acon_mm.AconMobileNetV2', widen_factor=0.17, out_indices=(2, 4, 6)",
        [8, 16, 56],
    ),
    'shufflenetv2': (
        "type='acon_mm.AconShuffleNetV2', widen_factor=0.5, out_indices=(0, 1, 2)",
        [48, 96, 192],
    ),
    'tfnet': (
        "type='acon_mm.TFNet', widen_factor=0.5, out_indices=(1, 2, 3)",
        [32, 64, 128],
    ),
    'senet': (
        "type='acon_mm.AconSENet', depth=154, out_indices=(1, 2, 3)",
        [512, 1024, 2048],
    ),
    'seresnet': (
        "type='acon_mm.AconResNet', depth=50, se_ratio=16, out_indices=(1, 2, 3)",
        [512, 1024, 2048],
    ),
}


@pytest.fixture(autouse=True)
def _scope(monkeypatch):
    # The whole SENet-154 would take a minute and show no more.
    monkeypatch.setitem(senet.NUM_BLOCKS, 154, (1, 1, 1, 1))
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.mark.parametrize('name', BACKBONES)
def test_a_detector_with_this_backbone_trains(name, tmp_path):
    backbone, channels = BACKBONES[name]
    base = config_path('detection/retinanet_r50_relu.py')
    path = tmp_path / 'config.py'
    text = CONFIG.format(base=base, backbone=backbone, channels=channels)
    assert len(text.strip().splitlines()) <= 5
    path.write_text(text)
    detector = MODELS.build(Config.fromfile(path).model)
    detector.train()
    sample = DetDataSample(
        gt_instances=InstanceData(
            bboxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]), labels=torch.tensor([1])
        ),
        metainfo=dict(img_shape=(64, 64), batch_input_shape=(64, 64), pad_shape=(64, 64)),
    )
    losses = detector.loss(torch.rand(2, 3, 64, 64), [sample, sample])
    total = sum(sum(value) for value in losses.values())
    assert torch.isfinite(total)
    total.backward()
    for parameter_name, p in detector.backbone.named_parameters():
        # DistributedDataParallel waits for every parameter that asks for a gradient.
        assert p.requires_grad == (p.grad is not None), parameter_name
    assert not any(p.requires_grad for p in detector.backbone.layer1.parameters())
    assert any(p.grad.any() for p in detector.backbone.layer2.parameters())
