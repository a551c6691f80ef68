"""Every lightweight network is RetinaNet's backbone in a config of five lines."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from acon_mm import config_path

CONFIG = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(_delete_=True, type={kind!r}, widen_factor={width}, out_indices={stages}),
    neck=dict(in_channels={channels}, start_level=0))
"""

FAMILIES = {
    'acon_mm.AconMobileNetV1': (0.25, (2, 3, 4), [64, 128, 256]),
    'acon_mm.AconMobileNetV2': (0.17, (2, 4, 6), [8, 16, 56]),
    'acon_mm.AconShuffleNetV2': (0.5, (0, 1, 2), [48, 96, 192]),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    yield
    init_default_scope('mmengine')


@pytest.mark.parametrize('kind', FAMILIES)
def test_a_detector_with_the_backbone_trains(kind, tmp_path):
    width, stages, channels = FAMILIES[kind]
    path = tmp_path / 'config.py'
    text = CONFIG.format(
        base=config_path('detection/retinanet_r50_relu.py'),
        kind=kind,
        width=width,
        stages=stages,
        channels=channels,
    )
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
    for name, p in detector.backbone.named_parameters():
        # DistributedDataParallel waits for every parameter that asks for a gradient.
        assert p.requires_grad == (p.grad is not None), name
