"""Measure what ACON costs in the training step and the inference of whole networks.

In every round each activation runs once in its own copy of the network: forward pass, loss,
backward pass and a step of SGD, and an inference of one image. The tables hold the median
milliseconds with the ratio to the first activation, and the bytes saved for the backward pass.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from acon_mm.analysis.markdown import markdown_table
from acon_mm.analysis.random_batch import random_batch
from acon_mm.analysis.saved_memory import saved_bytes
from acon_mm.apis import get_model
from compared import PublishedAconC, PublishedMetaAcon
from measuring import (
    Medians,
    build_parser,
    describe_machine,
    interleave,
    seconds_between,
    stamp,
    timing,
)

# By the name of the activation; None is the network's own.
ACT_CFGS = {
    'relu_apart': None,
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


class ReLUApart(nn.ReLU):
    """ReLU that is called after the norm, as in mmpretrain's networks: ``norm_act`` knows ReLU."""


class Network(NamedTuple):
    """A network and the batch that it is timed with.

    Attributes:
        model: Its name with ReLU, one of :func:`acon_mm.apis.list_models`.
        batch_size: The number of images per training step.
        image_size: The side of the images in pixels.
        reduction: Meta-ACON's ``r``.
    """

    model: str
    batch_size: int
    image_size: int = 224
    reduction: int = 16


NETWORKS = (
    Network('shufflenetv2_0.5x_relu', 32, reduction=8),
    Network('mobilenetv2_1.0_relu', 16),
    Network('resnet50_relu', 8),
    Network('retinanet_r50_relu', 2, 320),
)


def build_network(network: Network, name: str, device: str = 'cpu') -> tuple[BaseModel, dict]:
    """Build a network with an activation, in training mode, and a batch of random images.

    Its norms hold the statistics of the last images in training mode: with those of a new norm, 0
    and 1, a deep network in eval mode shrinks its maps until the CPU computes with denormal
    numbers.
    """
    backbone = {}
    if ACT_CFGS[name] is not None:
        backbone['act_cfg'] = dict(_delete_=True, **ACT_CFGS[name])
    if name in WITH_REDUCTION:
        backbone['act_cfg']['reduction'] = network.reduction
    torch.manual_seed(0)
    model = get_model(network.model, backbone=backbone).to(device)
    for module in model.modules():
        if name == 'relu_apart' and type(module) is nn.ReLU:
            module.__class__ = ReLUApart
    size = (network.image_size, network.image_size)
    batch = random_batch(model.cfg.default_scope, size, network.batch_size)
    batch = model.data_preprocessor(batch, training=True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = 1.0
    with torch.no_grad():
        model(batch['inputs'])
    return model.train(), batch


class StepTask:
    """Time one network with one activation, see :data:`ACT_CFGS`."""

    def __init__(self, network: Network, name: str, device: str = 'cpu') -> None:
        self.name, self.device = name, device
        self.model, self.batch = build_network(network, name, device)
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
            outputs = self.model(self.batch['inputs'][:1])
            latency = seconds_between(start, stamp(self.device))
        del outputs
        self.model.train()
        return {'step': step, 'latency': latency}

    def loss(self) -> Tensor:
        """Run the forward pass and return the sum of all losses."""
        return self.model.parse_losses(self.model(**self.batch, mode='loss'))[0]

    def step(self) -> Tensor:
        """Run forward and backward pass and the optimiser's step, and return the loss."""
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def measure_network(
    network: Network, names: Sequence[str], rounds: int, device: str = 'cpu'
) -> tuple[Medians, dict[str, int]]:
    """Return the times of activations in one network, and the bytes saved in its forward pass.

    As many networks are in memory as there are activations.
    """
    tasks = {name: StepTask(network, name, device) for name in names}
    saved = {name: saved_bytes(task.loss, task.model) for name, task in tasks.items()}
    return interleave(tasks, rounds), saved


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = build_parser(__doc__, tuple(ACT_CFGS), rounds=15)
    names = [network.model for network in NETWORKS]
    parser.add_argument('--networks', nargs='+', choices=names, default=names)
    parser.add_argument('--batch-size', type=int, help='images per step')
    args = parser.parse_args()
    print(describe_machine(args.device))
    header = ['Activation', 'step, ms', 'saved, MiB', 'one image, ms']
    for network in NETWORKS:
        if network.model not in args.networks:
            continue
        if args.batch_size:
            network = network._replace(batch_size=args.batch_size)
        medians, saved = measure_network(network, args.activations, args.rounds, args.device)
        rows = []
        for name in args.activations:
            step, latency = (timing(medians, name, phase) for phase in ('step', 'latency'))
            rows.append([name, step, f'{saved[name] / 2**20:.1f}', latency])
        images = f'{network.batch_size} images of {network.image_size}²'
        print(f'\n**{network.model}**, {images} per step\n\n{markdown_table(header, rows)}')


if __name__ == '__main__':
    main()
