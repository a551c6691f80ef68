"""The backbones of Table 10's segmentors against mmseg's own."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmseg.models.backbones import ResNet
from torch.nn.modules.batchnorm import _BatchNorm

from acon_mm import config_path


@pytest.mark.parametrize('training', [False, True], ids=['eval', 'train'])
def test_the_backbone_with_relu_is_the_resnet50_d8_of_mmseg(training, separate_norms):
    torch.manual_seed(0)
    cfg = Config.fromfile(config_path('segmentation/pspnet_r50_relu.py')).model.backbone
    cfg.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        net = MODELS.build(cfg)
        reference = ResNet(
            50,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            contract_dilation=True,
            style='caffe',
            norm_cfg=dict(type='SyncBN'),
        )
    assert list(net.state_dict()) == list(reference.state_dict())
    for norm in (m for m in reference.modules() if isinstance(m, _BatchNorm)):
        norm.weight.data.uniform_(0.5, 1)
        norm.bias.data.normal_(0, 0.1)
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    net.load_state_dict(reference.state_dict())
    x = torch.rand(2, 3, 64, 96)
    net.train(training)
    reference.train(training)
    with torch.no_grad():
        outs, expected = net(x), reference(x)
    assert [tuple(out.shape[1:]) for out in outs] == [
        (256, 16, 24),
        (512, 8, 12),
        (1024, 8, 12),
        (2048, 8, 12),
    ]
    for out, target in zip(outs, expected, strict=True):
        assert target.std() > 0.01, 'the comparison would be empty'
        torch.testing.assert_close(out, target, rtol=0, atol=1e-6)
