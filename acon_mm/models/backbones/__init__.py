"""Backbones with a replaceable activation, for classifiers, detectors and segmentors alike."""

from acon_mm._stack import needs_openmmlab

with needs_openmmlab(__name__):
    from .mobilenet_v1 import AconMobileNetV1
    from .mobilenet_v2 import AconMobileNetV2
    from .resnet import AconResNet
    from .senet import AconSENet
    from .shufflenet_v2 import AconShuffleNetV2
    from .tfnet import TFNet

__all__ = [
    'AconMobileNetV1',
    'AconMobileNetV2',
    'AconResNet',
    'AconSENet',
    'AconShuffleNetV2',
    'TFNet',
]
