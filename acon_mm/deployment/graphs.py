"""What goes into a file: a module from tensors to tensors for the model of each library."""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils import _pytree

from acon_mm.errors import UserError
from acon_mm.models.activations.folding import switch_activations_to_deploy

from .pooling import replace_adaptive_pools


class Graph(nn.Module):
    """A module to export, with the names of what it takes and gives.

    Attributes:
        inputs: The names of the inputs: ``images``, with NMS two more.
        outputs: The names of the outputs.
    """

    def __init__(
        self, network: nn.Module, inputs: list[str], outputs: list[str], preprocessor: nn.Module
    ) -> None:
        super().__init__()
        self.network = network
        self.mean = getattr(preprocessor, 'mean', 0.0)
        self.std = getattr(preprocessor, 'std', 1.0)
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, *tensors: Tensor) -> Any:
        found = _pytree.tree_leaves(self.network(*tensors))
        return tuple(found) if len(found) > 1 else found[0]

    def example(self, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Return preprocessed random pictures, the same ones for the same numbers.

        They have coarse patches and noise: on noise alone all places of a detector's map are
        alike, and rounding orders its boxes. A score threshold is 0.
        """
        dice = torch.Generator().manual_seed(0)
        patches = torch.rand(batch, 3, height // 16 + 2, width // 16 + 2, generator=dice)
        pictures = nn.functional.interpolate(patches, (height, width), mode='bilinear')
        pictures = 0.75 * pictures + 0.25 * torch.rand(pictures.shape, generator=dice)
        images = (255 * pictures - self.mean) / self.std
        sizes = torch.tensor([[height, width]]).repeat(batch, 1)
        return (images, sizes, torch.zeros(1))[: len(self.inputs)]


class _Raw(nn.Module):
    """What a model computes before its library makes predictions of it."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model(images, mode='tensor')


class _ClassMap(nn.Module):
    """The logits of a segmentor in the size of the images."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_decode(images, [{'img_shape': images.shape[2:]}])


def build_graph(model: BaseModel, scope: str, with_nms: bool = False) -> Graph:
    """Make the module to export of a model.

    Args:
        model: The model of mmpretrain, mmdet or mmsegmentation, changed in place: it is in eval
            mode and its activations in deploy form afterwards.
        scope: The library that the model is of, as in ``default_scope``.
        with_nms: Whether a detector decodes its boxes and selects them by NMS.

    Returns:
        The module. It takes preprocessed images of shape ``(N, 3, H, W)``, float32. A classifier
        gives the logits ``(N, classes)``; a segmentor the logits ``(N, classes, H, W)``; a
        detector the maps of its head, or what :class:`.DetectorWithNMS` says.

    Raises:
        UserError: If ``with_nms`` does not fit the model, or an activation trains.
    """
    if with_nms and scope != 'mmdet':
        raise UserError(f'--with-nms is for detectors, but the config has default_scope={scope!r}')
    model.eval()
    switch_activations_to_deploy(model)
    replace_adaptive_pools(model)
    if with_nms:
        from .detection import INPUTS, OUTPUTS, DetectorWithNMS  # needs mmdet

        network: nn.Module = DetectorWithNMS(model)
        inputs, outputs = list(INPUTS), list(OUTPUTS)
    else:
        network = _ClassMap(model) if scope == 'mmseg' else _Raw(model)
        inputs, outputs = ['images'], _output_names(network, scope)
    return Graph(network, inputs, outputs, model.data_preprocessor).eval()


@torch.no_grad()
def _output_names(network: nn.Module, scope: str) -> list[str]:
    if scope != 'mmdet':
        return ['logits']
    outputs = network(torch.zeros(1, 3, 64, 64))
    parts = [part if isinstance(part, (list, tuple)) else [part] for part in outputs]
    kinds = ['scores', 'deltas'] if len(parts) == 2 else [f'head{i}' for i in range(len(parts))]
    return [
        f'{kind}_{i}' for kind, part in zip(kinds, parts, strict=True) for i in range(len(part))
    ]
