"""Measure what ACON costs in the training step and the inference of whole networks.

In every round each activation runs once in its own copy of the network: forward pass, loss,
backward pass and a step of SGD, and an inference of one image. With --blocks it counts instead
what one block of the networks saves for its backward pass.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from torch import Tensor, nn

import reporting
from acon_mm.analysis.markdown import markdown_table
from acon_mm.analysis.saved_memory import saved_bytes
from acon_mm.apis import get_model
from acon_mm.errors import UserError
from compared import ACTIVATIONS, PublishedAconC, PublishedMetaAcon
from measuring import Times, interleave, seconds_between, stamp

REFERENCE = 'relu'
PHASES = ('step', 'latency')

# By the name of the activation; None is the network's own.
ACT_CFGS = {
    'relu': None,
    'silu': dict(type='SiLU', inplace=False),  # in place it would copy its input
    'published_aconc': dict(type=PublishedAconC),
    'published_metaacon': dict(type=PublishedMetaAcon),
    'aconc': dict(type='acon_mm.AconC'),
    'metaacon': dict(type='acon_mm.MetaAcon'),
}
WITH_REDUCTION = ('published_metaacon', 'metaacon')

# Steps this small leave the network what it is, however many of them are timed: the gradients of
# an untrained RetinaNet have norms of 1e6.
LR, MOMENTUM = 1e-12, 0.9


@dataclass(frozen=True)
class Network:
    """A network and the batch that it is timed with.

    Attributes:
        label: Its name in the tables.
        model: Its name with ReLU, one of :func:`acon_mm.apis.list_models`.
        batch_size: The number of images per training step.
        image_size: The side of the images in pixels.
        reduction: Meta-ACON's ``r``.
        block: The name of a typical block of the backbone, for ``--blocks``.
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


def build_network(network: Network, name: str, device: str = 'cpu') -> BaseModel:
    """Build a network with an activation, in training mode.

    Its norms start with the running statistics of random images: with those of a new norm, 0 and
    1, a deep network in eval mode shrinks its maps until the CPU computes with denormal numbers.
    """
    backbone = {}
    if ACT_CFGS[name] is not None:
        backbone['act_cfg'] = dict(_delete_=True, **ACT_CFGS[name])
    if name in WITH_REDUCTION:
        backbone['act_cfg']['reduction'] = network.reduction
    torch.manual_seed(0)
    model = get_model(network.model, backbone=backbone).to(device)
    norms = [module.train() for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(make_batch(network, device)[0])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.train()


def make_batch(network: Network, device: str = 'cpu') -> tuple[Tensor, list]:
    """Make random images, and the data samples with labels that the loss of the network takes."""
    size = network.image_size
    dice = torch.Generator().manual_seed(0)
    images = torch.randn(network.batch_size, 3, size, size, generator=dice)
    if not network.detects:
        samples = [DataSample().set_gt_label(index) for index in range(network.batch_size)]
    else:
        # Here, since classifiers are measured without mmdetection.
        from mmdet.structures import DetDataSample

        boxes = size * torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.3, 0.4, 0.9, 0.8]])
        shapes = dict.fromkeys(('img_shape', 'batch_input_shape', 'pad_shape'), (size, size))
        objects = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]))
        samples = [
            DetDataSample(gt_instances=objects, metainfo=shapes) for _ in range(network.batch_size)
        ]
    return images.to(device), [sample.to(device) for sample in samples]


class StepTask:
    """Time one network with one activation, see :data:`ACT_CFGS`."""

    def __init__(self, network: Network, name: str, device: str = 'cpu') -> None:
        self.name, self.device = name, device
        self.model = build_network(network, name, device)
        self.images, self.samples = make_batch(network, device)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM)

    def __call__(self) -> dict[str, float]:
        """Run a training step and an inference and return the seconds of both."""
        start = stamp(self.device)
        loss = self.step()
        step = seconds_between(start, stamp(self.device))
        if not loss.isfinite():
            raise FloatingPointError(f'the loss with {self.name!r} is {loss.item()}')
        self.model.eval()
        with torch.no_grad():
            start = stamp(self.device)
            outputs = self.model(self.images[:1])
            latency = seconds_between(start, stamp(self.device))
        del outputs
        self.model.train()
        return dict(zip(PHASES, (step, latency), strict=True))

    def loss(self) -> Tensor:
        """Run the forward pass and return the sum of all losses."""
        losses = self.model.loss(self.images, self.samples)
        return self.model.parse_losses(losses)[0]

    def step(self) -> Tensor:
        """Run forward and backward pass and the optimiser's step, and return the loss."""
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def measure_network(
    network: Network,
    names: Sequence[str],
    rounds: int,
    seconds: float = math.inf,
    device: str = 'cpu',
) -> tuple[Times, dict[str, int]]:
    """Return the times of activations in one network, and the bytes saved in its forward pass.

    As many networks are in memory as there are activations.
    """
    tasks = {name: StepTask(network, name, device) for name in names}
    saved = {name: saved_bytes(task.loss, task.model) for name, task in tasks.items()}
    slow = [name for name in names if ACTIVATIONS[name].slow]
    return interleave(tasks, rounds, seconds, slow), saved


def measure_block(network: Network, name: str, device: str = 'cpu') -> tuple[str, int]:
    """Return a network's typical block in words, and the bytes that it saves in training."""
    model = build_network(network, name, device)
    block = model.backbone.get_submodule(network.block)
    inputs = []
    with (
        block.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone())),
        torch.no_grad(),
    ):
        model(make_batch(network, device)[0])
    x = inputs[0].requires_grad_()
    words = f'{type(block).__name__} of {network.label}, {reporting.dimensions(x.shape)}'
    return words, saved_bytes(lambda: block(x), block)


def measure(args: argparse.Namespace) -> str:
    """Measure all networks and return their tables."""
    parts = []
    for network in args.networks:
        found, saved = measure_network(
            network, args.activations, args.rounds, args.seconds, args.device
        )
        rows = []
        for name, nbytes in saved.items():
            step, latency = (reporting.timing(found, name, REFERENCE, phase) for phase in PHASES)
            rows.append([ACTIVATIONS[name].label, step, reporting.mebibytes(nbytes), latency])
        head = (
            f'**{network.label}**, {network.batch_size} images of {network.image_size}² per step, '
            f'{reporting.count_rounds(found)} rounds'
        )
        table = markdown_table(['Activation', 'step, ms', 'saved, MiB', 'one image, ms'], rows)
        parts.append(reporting.show(f'{head}\n\n{table}'))
    return '\n\n'.join(parts)


def measure_blocks(args: argparse.Namespace) -> str:
    """Return a table of what the blocks save, one column per block."""
    blocks = [network for network in args.networks if network.block]
    if not blocks:
        raise UserError(
            'networks names none with a block to measure; use '
            f'{" or ".join(name for name in NETWORKS if NETWORKS[name].block)}'
        )
    columns, rows = {}, {name: [ACTIVATIONS[name].label] for name in args.activations}
    for network in blocks:
        for name, cells in rows.items():
            columns[network], nbytes = measure_block(network, name, args.device)
            cells.append(reporting.mebibytes(nbytes))
    return reporting.show(markdown_table(['Saved, MiB', *columns.values()], list(rows.values())))


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = reporting.build_parser(__doc__, tuple(ACT_CFGS), rounds=15)
    parser.add_argument(
        '--networks',
        nargs='+',
        choices=tuple(NETWORKS),
        default=tuple(NETWORKS),
        metavar='NAME',
        help=f'out of {", ".join(NETWORKS)} (default: all)',
    )
    for flag, words in (('--batch-size', 'images per step'), ('--image-size', 'side in pixels')):
        parser.add_argument(flag, type=reporting.positive, metavar='N', help=words)
    parser.add_argument('--blocks', action='store_true', help='count what blocks save instead')
    args = parser.parse_args()
    sizes = {'batch_size': args.batch_size, 'image_size': args.image_size}
    given = {name: size for name, size in sizes.items() if size is not None}
    args.networks = [replace(NETWORKS[name], **given) for name in args.networks]
    if args.blocks:
        reporting.run_benchmark(args, 'benchmark_blocks', measure_blocks)
    else:
        reporting.run_benchmark(args, 'benchmark_train_step', measure)


if __name__ == '__main__':
    main()
