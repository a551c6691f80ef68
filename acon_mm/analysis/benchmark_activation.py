"""What an activation costs on one feature map: time, memory kept for the backward pass, bandwidth.

The map is written anew before each timing, as the layer before an activation does, so every row
finds the same state of the caches.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from .benchmark_memory import kept_bytes
from .benchmark_rows import REFERENCE, ROWS
from .benchmark_timing import Clock, Plan, Spread, clock_of, interleave

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
LAYOUTS = {'nchw': torch.contiguous_format, 'channels_last': torch.channels_last}
PHASES = ('inference', 'forward', 'backward', 'both')

COPY = 'copy'


@dataclass(frozen=True)
class Case:
    """A feature map.

    Attributes:
        shape: Its shape ``(N, C, H, W)``.
        dtype: ``'fp32'``, or ``'bf16'`` for a bfloat16 map under autocast, with float32
            parameters.
        layout: ``'nchw'`` or ``'channels_last'``.
    """

    shape: tuple[int, int, int, int]
    dtype: str
    layout: str

    @property
    def nbytes(self) -> int:
        """The bytes of the map, which is what the tables call N."""
        return torch.Size(self.shape).numel() * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class CaseResult:
    """What the rows came to on one feature map.

    Attributes:
        case: The feature map.
        times: For each row that ran, the spread of the seconds of each of :data:`PHASES`.
        copy: The spread of the seconds of copying the map.
        kept: For each row that ran, the bytes kept for the backward pass.
        failures: For each row that did not run, why.
    """

    case: Case
    times: dict[str, dict[str, Spread]]
    copy: Spread
    kept: dict[str, int]
    failures: dict[str, str]

    def ratio(self, row: str, phase: str) -> float | None:
        """Return the median of a row over that of SiLU; None if one of them did not run."""
        if row not in self.times or REFERENCE not in self.times:
            return None
        return self.times[row][phase].median / self.times[REFERENCE][phase].median

    def kept_maps(self, row: str) -> float:
        """Return the bytes that a row keeps, as a multiple of the bytes of the map."""
        return self.kept[row] / self.case.nbytes

    def bandwidth(self, row: str, phase: str) -> float:
        """Return the bytes per second at which a row would have done the least it must move."""
        forward, backward = ROWS[row].passes
        passes = {'backward': backward, 'both': forward + backward}.get(phase, forward)
        return passes * self.case.nbytes / self.times[row][phase].median

    def copy_bandwidth(self) -> float:
        """Return the bytes per second of the copy, which reads the map and writes it."""
        return 2 * self.case.nbytes / self.copy.median


def all_cases(
    shapes: Sequence[tuple[int, int, int, int]] = SHAPES,
    dtypes: Collection[str] = tuple(DTYPES),
    layouts: Collection[str] = tuple(LAYOUTS),
) -> Iterator[Case]:
    """Yield the feature maps of all combinations."""
    for dtype, layout, shape in product(dtypes, layouts, shapes):
        yield Case(tuple(shape), dtype, layout)


def measure_case(
    case: Case, rows: Collection[str], plan: Plan, device: str = 'cpu', clock: Clock | None = None
) -> CaseResult:
    """Measure rows on one feature map, in turn within each round.

    Args:
        case: The feature map.
        rows: The names of rows, see :data:`ROWS`.
        plan: How many rounds.
        device: ``'cpu'`` or ``'cuda'``.
        clock: What measures; that of the device by default.

    Returns:
        The result. A row that raises a ``RuntimeError`` in its first run is left out and stands
        among the failures: ``torch.compile`` where no compiler is, or a lack of memory.
    """
    torch.compiler.reset()  # each case compiles for its own shape, and a function may 8 times
    feed = Feed(case, device, clock or clock_of(device))
    tasks, kept, failures = {COPY: feed.time_copy}, {}, {}
    for name in rows:
        try:
            task = RowTask(ROWS[name].build(case.shape[1]), feed, ROWS[name].one_pixel)
            task()
            kept[name] = task.kept_bytes()
        except RuntimeError as error:
            failures[name] = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
        else:
            tasks[name] = task
    times = interleave(tasks, plan, {name: ROWS[name].every for name in rows})
    return CaseResult(case, times, times.pop(COPY)['copy'], kept, failures)


class Feed:
    """The tensors of one case, which all rows share.

    Args:
        case: The feature map.
        device: ``'cpu'`` or ``'cuda'``.
        clock: What measures.
    """

    def __init__(self, case: Case, device: str, clock: Clock) -> None:
        self.case, self.device, self.clock = case, device, clock
        dice = torch.Generator(device).manual_seed(0)
        self.source, self.x, self.target, self.gradient = (
            torch.empty(
                case.shape,
                dtype=DTYPES[case.dtype],
                device=device,
                memory_format=LAYOUTS[case.layout],
            )
            for _ in range(4)
        )
        self.source.normal_(generator=dice)
        self.gradient.normal_(generator=dice)
        self.x.requires_grad_()

    @torch.no_grad()
    def write_map(self) -> None:
        """Write the map, as the layer before an activation does."""
        self.x.copy_(self.source)

    @torch.no_grad()
    def time_copy(self) -> dict[str, float]:
        """Copy the map and return the seconds."""
        self.write_map()
        start = self.clock.stamp()
        self.target.copy_(self.x)
        return {'copy': self.clock.seconds(start, self.clock.stamp())}

    def autocast(self) -> torch.autocast:
        """Return what a bfloat16 map runs under."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.case.dtype == 'bf16')


class RowTask:
    """Time one activation on one feature map.

    Args:
        module: The activation, whose parameters are moved away from their first values, where a
            formula might be cheaper.
        feed: The map.
        one_pixel: Whether the activation gets one pixel of the map alone.
    """

    def __init__(self, module: nn.Module, feed: Feed, one_pixel: bool = False) -> None:
        self.module = module.to(feed.device)
        self.feed = feed
        self.x, self.gradient = feed.x, feed.gradient
        if one_pixel:
            self.x = feed.source[:1, :, :1, :1].clone().requires_grad_()
            self.gradient = feed.gradient[:1, :, :1, :1].clone()
        dice = torch.Generator(feed.device).manual_seed(0)
        with torch.no_grad():
            for parameter in self.module.parameters():
                noise = torch.randn(parameter.shape, generator=dice, device=feed.device)
                parameter += 0.25 * noise
        self.leaves = [self.x, *self.module.parameters()]

    def __call__(self) -> dict[str, float]:
        """Run once each way and return the seconds of each of :data:`PHASES`."""
        # The results are held past the second stamp, so that freeing them is no part of it.
        clock = self.feed.clock
        self.module.eval()
        with torch.no_grad():
            self.forward()  # finds what the row before left in the caches and in the allocator
            self.feed.write_map()
            start = clock.stamp()
            y = self.forward()
            inference = clock.seconds(start, clock.stamp())
        del y
        self.module.train()
        self.feed.write_map()
        start = clock.stamp()
        y = self.forward()
        forward = clock.seconds(start, clock.stamp())
        gradient = self.gradient.to(y.dtype)
        start = clock.stamp()
        gradients = torch.autograd.grad(y, self.leaves, gradient)
        backward = clock.seconds(start, clock.stamp())
        del gradients
        both = forward + backward
        return dict(zip(PHASES, (inference, forward, backward, both), strict=True))

    def forward(self) -> Tensor:
        """Apply the activation as a network would."""
        with self.feed.autocast():
            return self.module(self.x)

    def kept_bytes(self) -> int:
        """Return the bytes that the graph keeps for the backward pass."""
        return kept_bytes(self.forward, self.module)
