"""Measure what ACON costs on feature maps, against ReLU, SiLU and the published formula.

In every round each activation runs once: forward under no_grad (inference), forward and backward.
The tables hold medians with the 20th and the 80th percentile, and ratios to SiLU of the same run.
With all of its defaults it takes about ten minutes on two cores.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

import reporting
from acon_mm.analysis.markdown import NONE, markdown_table
from acon_mm.analysis.saved_memory import saved_bytes
from compared import ACTIVATIONS, Activation
from measuring import Spread, interleave, ratio, seconds_between, stamp

# Stages of real networks. From 4 MB on, a map leaves the second-level cache; the last one is
# RetinaNet's first stage and leaves every cache.
SHAPES = (
    (4, 24, 112, 112),
    (8, 64, 56, 56),
    (16, 256, 28, 28),
    (32, 512, 7, 7),
    (2, 64, 400, 672),
)
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}
DTYPE_NAMES = {'fp32': 'float32', 'bf16': 'bfloat16 (autocast)'}
LAYOUTS = {'nchw': torch.contiguous_format, 'channels_last': torch.channels_last}
LAYOUT_NAMES = {'nchw': 'NCHW', 'channels_last': 'channels_last'}

REFERENCE = 'silu'
PHASES = ('inference', 'forward', 'backward', 'both')


@dataclass(frozen=True)
class Case:
    """A feature map.

    Attributes:
        shape: Its shape ``(N, C, H, W)``.
        dtype: ``'fp32'``, or ``'bf16'`` for a bfloat16 map under autocast, with float32
            parameters.
        layout: ``'nchw'`` or ``'channels_last'``.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: str

    @property
    def nbytes(self) -> int:
        """The bytes of the map, which is what the tables call N."""
        return torch.Size(self.shape).numel() * DTYPES[self.dtype].itemsize


class Result(NamedTuple):
    """The times, saved bytes and failures of activations on one map, each by their names."""

    case: Case
    times: dict[str, dict[str, Spread]]
    saved: dict[str, int]
    failures: dict[str, str]


class FeatureMap:
    """The tensors of one case, which all activations share."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        dice = torch.Generator(device).manual_seed(0)
        dtype, layout = DTYPES[case.dtype], LAYOUTS[case.layout]
        self.source, self.x, self.gradient = (
            torch.empty(case.shape, dtype=dtype, device=device, memory_format=layout)
            for _ in range(3)
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
        activation: The activation. The parameters of its module are moved away from their first
            values, where a formula might be cheaper.
        feature_map: The map.
    """

    def __init__(self, activation: Activation, feature_map: FeatureMap) -> None:
        self.map, self.device = feature_map, feature_map.device
        self.module = activation.build(feature_map.case.shape[1]).to(self.device)
        self.x, self.gradient = feature_map.x, feature_map.gradient
        if activation.one_pixel:
            self.x = feature_map.source[:1, :, :1, :1].clone().requires_grad_()
            self.gradient = self.gradient[:1, :, :1, :1].clone()
        dice = torch.Generator(self.device).manual_seed(0)
        with torch.no_grad():
            for parameter in self.module.parameters():
                noise = torch.randn(parameter.shape, generator=dice, device=self.device)
                parameter += 0.25 * noise
        self.leaves = [self.x, *self.module.parameters()]

    def __call__(self) -> dict[str, float]:
        """Run once each way and return the seconds of each of :data:`PHASES`."""
        # The results are held past the second stamp, so that freeing them is not timed.
        self.module.eval()
        with torch.no_grad():
            self.forward()  # takes what the task before left in the caches and in the allocator
            self.map.write()
            start = stamp(self.device)
            y = self.forward()
            inference = seconds_between(start, stamp(self.device))
        del y
        self.module.train()
        self.map.write()
        start = stamp(self.device)
        y = self.forward()
        forward = seconds_between(start, stamp(self.device))
        gradient = self.gradient.to(y.dtype)
        start = stamp(self.device)
        gradients = torch.autograd.grad(y, self.leaves, gradient)
        backward = seconds_between(start, stamp(self.device))
        del gradients
        return dict(zip(PHASES, (inference, forward, backward, forward + backward), strict=True))

    def forward(self) -> Tensor:
        """Apply the activation as a network would."""
        half = self.map.case.dtype == 'bf16'
        with torch.autocast(self.device, torch.bfloat16, enabled=half):
            return self.module(self.x)


def measure_case(
    case: Case, names: Sequence[str], rounds: int, seconds: float = math.inf, device: str = 'cpu'
) -> Result:
    """Measure activations on one feature map.

    An activation that raises a ``RuntimeError`` in its first run is left out and stands among the
    failures: ``torch.compile`` where no compiler is, or a lack of memory.
    """
    torch.compiler.reset()  # each case compiles for its own shape, and a function may 8 times
    feature_map = FeatureMap(case, device)
    tasks, saved, failures = {}, {}, {}
    for name in names:
        try:
            task = ActivationTask(ACTIVATIONS[name], feature_map)
            task()
            saved[name] = saved_bytes(task.forward, task.module)
        except RuntimeError as error:
            failures[name] = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
        else:
            tasks[name] = task
    slow = [name for name in tasks if ACTIVATIONS[name].slow]
    return Result(case, interleave(tasks, rounds, seconds, slow), saved, failures)


def case_table(result: Result) -> str:
    """Write all figures of one feature map."""
    case = result.case
    words = reporting.dimensions(case.shape), DTYPE_NAMES[case.dtype], LAYOUT_NAMES[case.layout]
    rounds = reporting.count_rounds(result.times)
    head = f'**{", ".join(words)}**: N = {reporting.mebibytes(case.nbytes)} MiB, {rounds} rounds'
    rows = []
    for name, saved in result.saved.items():
        cells = [reporting.timing(result.times, name, REFERENCE, phase) for phase in PHASES]
        rows.append([ACTIVATIONS[name].label, *cells, f'{saved / case.nbytes:.2f}'])
    header = ['Activation', *(f'{phase}, ms' for phase in PHASES), 'saved, N']
    failures = [f'- {ACTIVATIONS[name].label}: {why}' for name, why in result.failures.items()]
    return '\n\n'.join([head, markdown_table(header, rows), *failures])


def summary_tables(results: Sequence[Result]) -> str:
    """Write the ratios to SiLU, one column per shape, and the most bytes that any map saves."""
    names = [name for name in ACTIVATIONS if any(name in result.saved for result in results)]
    parts = []
    for phase in ('both', 'inference'):
        title = 'Forward and backward' if phase == 'both' else 'Forward under `no_grad`'
        for dtype in dict.fromkeys(result.case.dtype for result in results):
            part = [result for result in results if result.case.dtype == dtype]
            layouts = dict.fromkeys(LAYOUT_NAMES[result.case.layout] for result in part)
            shapes = dict.fromkeys(result.case.shape for result in part)
            parts.append(f'**{title}, {DTYPE_NAMES[dtype]}**: times SiLU, {" / ".join(layouts)}')
            rows = []
            for name in names:
                ratios = {shape: [] for shape in shapes}
                for result in part:
                    found = ratio(result.times, name, REFERENCE, phase)
                    ratios[result.case.shape].append(reporting.multiple(found))
                rows.append([ACTIVATIONS[name].label, *map(' / '.join, ratios.values())])
                if phase == 'both':
                    saved = [r.saved[name] / r.case.nbytes for r in part if name in r.saved]
                    rows[-1].append(f'{max(saved):.2f}' if saved else NONE)
            header = ['Activation', *map(reporting.dimensions, shapes)]
            header += ['saved, N'] * (phase == 'both')
            parts.append(markdown_table(header, rows))
    return '\n\n'.join(parts)


def measure(args: argparse.Namespace) -> str:
    """Measure all feature maps; return the summary and their tables."""
    results, tables = [], []
    for dtype, layout, shape in product(args.dtypes, args.layouts, args.shapes):
        case = Case(shape, dtype, layout)
        found = measure_case(case, args.activations, args.rounds, args.seconds, args.device)
        results.append(found)
        tables.append(reporting.show(case_table(found)))
    summary = reporting.show(summary_tables(results))
    fold = '<details>\n<summary>Every feature map</summary>'
    return '\n\n'.join([summary, fold, *tables, '</details>'])


def shape(text: str) -> tuple[int, ...]:
    """Read ``4x24x112x112`` from the command line."""
    sizes = tuple(reporting.positive(part) for part in text.split('x'))
    if len(sizes) != 4:
        raise ValueError
    return sizes


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = reporting.build_parser(__doc__, tuple(ACTIVATIONS), rounds=60, seconds=12)
    parser.add_argument(
        '--shapes',
        nargs='+',
        type=shape,
        default=SHAPES,
        metavar='NxCxHxW',
        help=f'feature maps (default: {" ".join("x".join(map(str, sizes)) for sizes in SHAPES)})',
    )
    for name, values in (('--dtypes', DTYPES), ('--layouts', LAYOUTS)):
        parser.add_argument(name, nargs='+', choices=tuple(values), default=tuple(values))
    reporting.run_benchmark(parser.parse_args(), 'benchmark_activation', measure)


if __name__ == '__main__':
    main()
