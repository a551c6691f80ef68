"""Measure what ACON costs on feature maps, against ReLU, SiLU and the published formula.

In every round each activation runs once: forward under no_grad (inference), and forward and
backward (training). The tables hold the median milliseconds with the ratio to the first
activation, and the largest number of bytes saved for the backward pass, in units of the bytes N of
the map. With all of its defaults it takes about ten minutes on two cores.
"""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from acon_mm.analysis.markdown import markdown_table
from acon_mm.analysis.saved_memory import saved_bytes
from compared import ACTIVATIONS
from measuring import (
    Medians,
    build_parser,
    describe_machine,
    interleave,
    seconds_between,
    stamp,
    timing,
)

# A pixel of two samples, whose time is that of a call, and stages of real networks. From 4 MB on,
# a map leaves the second-level cache; the last one is RetinaNet's first stage and leaves all.
SHAPES = (
    (2, 64, 1, 1),
    (4, 24, 112, 112),
    (8, 64, 56, 56),
    (16, 256, 28, 28),
    (32, 512, 7, 7),
    (2, 64, 400, 672),
)
DTYPES = (torch.float32, torch.bfloat16)
LAYOUTS = (torch.contiguous_format, torch.channels_last)
PHASES = ('training', 'inference')


class FeatureMap:
    """The tensors of one map, which all activations share.

    Args:
        shape: The shape ``(N, C, H, W)``.
        dtype: The dtype. With bfloat16, activations run under autocast, with float32 parameters.
        layout: The memory format.
        device: ``'cpu'`` or ``'cuda'``.
    """

    def __init__(
        self, shape: Sequence[int], dtype: torch.dtype, layout: torch.memory_format, device: str
    ) -> None:
        dice = torch.Generator(device).manual_seed(0)
        self.source, self.x, self.gradient = (
            torch.empty(shape, dtype=dtype, device=device, memory_format=layout) for _ in range(3)
        )
        self.source.normal_(generator=dice)
        self.gradient.normal_(generator=dice)
        self.x.requires_grad_()

    @torch.no_grad()
    def write(self) -> None:
        """Write the map, as the layer before an activation does: the caches are then alike."""
        self.x.copy_(self.source)


class ActivationTask:
    """Time one activation on one feature map.

    Args:
        build: Makes the module from the number of channels. Its parameters are moved away from
            their initial values, with which a formula might be cheaper.
        feature_map: The map.
    """

    def __init__(self, build: Callable[[int], nn.Module], feature_map: FeatureMap) -> None:
        self.map, self.device = feature_map, feature_map.x.device.type
        self.module = build(feature_map.x.shape[1]).to(self.device)
        dice = torch.Generator(self.device).manual_seed(0)
        with torch.no_grad():
            for parameter in self.module.parameters():
                noise = torch.randn(parameter.shape, generator=dice, device=self.device)
                parameter += 0.25 * noise
        self.leaves = [feature_map.x, *self.module.parameters()]

    def __call__(self) -> dict[str, float]:
        """Run once each way and return the seconds of each of :data:`PHASES`."""
        # The results are held past the second stamp, so that freeing them is not timed.
        self.module.eval()
        with torch.no_grad():
            # Takes what the task before left in the caches and in the allocator.
            gradient = self.map.gradient.to(self.forward().dtype)
            self.map.write()
            start = stamp(self.device)
            y = self.forward()
            inference = seconds_between(start, stamp(self.device))
        del y
        self.module.train()
        self.map.write()
        start = stamp(self.device)
        y = self.forward()
        gradients = torch.autograd.grad(y, self.leaves, gradient)
        training = seconds_between(start, stamp(self.device))
        del gradients
        return dict(zip(PHASES, (training, inference), strict=True))

    def forward(self) -> Tensor:
        """Apply the activation as a network would."""
        half = self.map.x.dtype == torch.bfloat16
        with torch.autocast(self.device, torch.bfloat16, enabled=half):
            return self.module(self.map.x)


def measure_map(
    feature_map: FeatureMap, names: Sequence[str], rounds: int
) -> tuple[Medians, dict[str, float]]:
    """Return the times of activations on one map, and what they save in units of its bytes."""
    torch.compiler.reset()  # each map compiles for its own shape, and a function may 8 times
    tasks = {name: ActivationTask(ACTIVATIONS[name], feature_map) for name in names}
    saved = {
        name: saved_bytes(task.forward, task.module) / feature_map.x.nbytes
        for name, task in tasks.items()
    }
    return interleave(tasks, rounds), saved


def main() -> None:
    """Parse the arguments, measure and print."""
    args = build_parser(__doc__, tuple(ACTIVATIONS), rounds=20).parse_args()
    print(describe_machine(args.device))
    header = ['Activation', *('×'.join(map(str, shape)) for shape in SHAPES), 'saved, N']
    for dtype, layout in product(DTYPES, LAYOUTS):
        found = [
            measure_map(
                FeatureMap(shape, dtype, layout, args.device), args.activations, args.rounds
            )
            for shape in SHAPES
        ]
        for phase in PHASES:
            rows = []
            for name in args.activations:
                cells = [timing(medians, name, phase) for medians, _ in found]
                # Of the maps: a pixel is no larger than the parameters.
                most = max(saved[name] for _, saved in found[1:])
                rows.append([name, *cells, f'{most:.2f}'])
            print(f'\n**{phase}, {dtype}, {layout}**, ms\n\n{markdown_table(header, rows)}')


if __name__ == '__main__':
    main()
