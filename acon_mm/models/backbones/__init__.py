"""Backbones with a replaceable activation, for classifiers, detectors and segmentors alike."""

from .resnet import AconResNet

__all__ = ['AconResNet']
