"""The networks of the training benchmark: mmpretrain's classifiers and mmdetection's RetinaNet."""

from dataclasses import dataclass

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, InstanceData
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from acon_mm.apis import get_model

from .benchmark_rows import NETWORK_ROWS


@dataclass(frozen=True)
class Network:
    """A network and the batch that it is timed with.

    Attributes:
        label: What the tables call it.
        model: Its name with ReLU, one of :func:`acon_mm.apis.list_models`.
        batch_size: The number of images of a training step.
        image_size: The side of the images in pixels.
        reduction: Meta-ACON's ``r``.
        block: The name of a typical block of the backbone, if what it keeps is to be listed.
        detects: Whether it is a detector.
    """

    label: str
    model: str
    batch_size: int
    image_size: int = 224
    reduction: int = 16
    block: str | None = None
    detects: bool = False


NETWORKS = {
    'shufflenetv2_0.5x': Network(
        'ShuffleNetV2 0.5×', 'shufflenetv2_0.5x_relu', 32, reduction=8, block='layer1.1'
    ),
    'mobilenetv2_1.0': Network('MobileNetV2 1.0 (its ReLU is ReLU6)', 'mobilenetv2_1.0_relu', 16),
    'resnet50': Network('ResNet-50', 'resnet50_relu', 8, block='layer1.1'),
    'retinanet_r50': Network('RetinaNet-R50', 'retinanet_r50_relu', 2, 320, detects=True),
}


def build_network(network: Network, row: str, device: str = 'cpu') -> BaseModel:
    """Build a network with the activation of a row.

    Its norms start with the running statistics of random images: with those of a new norm, 0 and
    1, a deep network in eval mode shrinks its maps until the CPU computes with denormal numbers.

    Args:
        network: The network.
        row: The name of a row, see :data:`NETWORK_ROWS`.
        device: ``'cpu'`` or ``'cuda'``.

    Returns:
        The network in training mode, with the weights of a newly built one.
    """
    activation = NETWORK_ROWS[row]
    changes = {}
    if activation.act_cfg is not None:
        act_cfg = dict(_delete_=True, **activation.act_cfg)
        if activation.is_meta:
            act_cfg['reduction'] = network.reduction
        changes['act_cfg'] = act_cfg
    torch.manual_seed(0)
    model = get_model(network.model, backbone=changes).to(device)
    _set_running_statistics(model, make_batch(network, device)[0])
    return model.train()


def make_batch(network: Network, device: str = 'cpu') -> tuple[Tensor, list]:
    """Make random images and their labels.

    Args:
        network: The network.
        device: ``'cpu'`` or ``'cuda'``.

    Returns:
        The images, of shape ``(batch_size, 3, image_size, image_size)``, and the data samples
        that the loss of the network takes.
    """
    size = network.image_size
    dice = torch.Generator().manual_seed(0)
    images = torch.randn(network.batch_size, 3, size, size, generator=dice)
    make = _detection_sample if network.detects else _classification_sample
    samples = [make(index, size).to(device) for index in range(network.batch_size)]
    return images.to(device), samples


def _classification_sample(index: int, size: int) -> DataSample:
    return DataSample().set_gt_label(index)


def _detection_sample(index: int, size: int) -> BaseDataElement:
    # Here, since classifiers are measured without mmdetection.
    from mmdet.structures import DetDataSample

    boxes = size * torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.3, 0.4, 0.9, 0.8]])
    shape = (size, size)
    return DetDataSample(
        gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([index, index + 1])),
        metainfo=dict(img_shape=shape, batch_input_shape=shape, pad_shape=shape),
    )


@torch.no_grad()
def _set_running_statistics(model: BaseModel, images: Tensor) -> None:
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
