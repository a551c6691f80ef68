"""Whether a file computes what the model computes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from acon_mm.errors import UserError

from .formats import Function
from .graphs import Graph

TOLERANCE = 1e-4
"""The largest difference that is accepted, relative to the largest value of an output."""

SAME_BOXES = 0.95
"""The share of boxes that have to be the same: rounding decides which of two boxes with one score
is kept, and whether their overlap is above the threshold of NMS."""

Shape = tuple[int, int, int]


def shapes_to_compare(size: tuple[int, int], is_dynamic: bool) -> list[Shape]:
    """Return batch, height and width of the inputs: for a dynamic file two sizes, two batches."""
    height, width = size
    if not is_dynamic:
        return [(1, height, width)]
    # Sides of 32 more are accepted by networks that ask for a multiple of it.
    return [(n, h, w) for n in (1, 3) for h, w in ((height, width), (height + 32, width + 96))]


@torch.no_grad()
def verify(graph: Graph, function: Function, shapes: Sequence[Shape]) -> dict[Shape, float]:
    """Compare a file with the module that it was made of.

    Args:
        graph: The module.
        function: The file, as :func:`.formats.read` loads it.
        shapes: Batch, height and width of each input.

    Returns:
        For each shape the largest difference, relative to the largest value of the output.

    Raises:
        UserError: If a difference is above :data:`TOLERANCE`, or the file refuses a shape.
    """
    found = {}
    for shape in shapes:
        inputs = graph.example(*shape)
        expected = graph(*inputs)
        expected = expected if isinstance(expected, tuple) else (expected,)
        try:
            outputs = function(*inputs)
        except Exception as error:  # each runtime has its own
            reason = ' '.join(str(error).split())[:300]
            raise UserError(
                f'the file refuses {_text(shape)}: {type(error).__name__}: {reason}; use a larger '
                '--shape, for a map of one pixel becomes a rule of the file, or another format'
            ) from error
        found[shape] = _difference(graph.outputs, outputs, expected)
        if not found[shape] <= TOLERANCE:  # neither is a NaN
            raise UserError(
                f'the file is wrong: for {_text(shape)} its output differs by {found[shape]:.2g} '
                f'of the largest value, more than {TOLERANCE:g}; use another format or exporter, '
                'or no --dynamic'
            )
    return found


def _difference(names: list[str], outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    for name, output, target in zip(names, outputs, expected, strict=True):
        if output.shape != target.shape:
            raise UserError(
                f'the file is wrong: its output {name} has the shape {tuple(output.shape)}, the '
                f"model's {tuple(target.shape)}; use another format or exporter, or no --dynamic"
            )
    if 'labels' in names:
        return _box_difference(*outputs, *expected)
    return max(
        float((output - target).abs().max() / target.abs().max().clamp(min=1e-12))
        for output, target in zip(outputs, expected, strict=True)
    )


def _text(shape: Shape) -> str:
    return f'{shape[0]} images of {shape[1]}×{shape[2]}'


def _box_difference(boxes: Tensor, labels: Tensor, expected: Tensor, classes: Tensor) -> float:
    """Return how far :data:`SAME_BOXES` of all boxes are at most from one of image and class."""
    scale = torch.cat([expected[..., :4].abs().amax().clamp(min=1).repeat(4), torch.ones(1)])
    nearest = []
    for image in range(len(boxes)):
        ours, theirs = labels[image] >= 0, classes[image] >= 0
        apart = ((boxes[image, ours, None] - expected[image, theirs]) / scale).abs().amax(-1)
        apart[labels[image, ours, None] != classes[image, theirs]] = float('inf')
        nearest += [pad(apart, (0, 1, 0, 1), value=float('inf')).amin(dim)[:-1] for dim in (0, 1)]
    return float(torch.cat(nearest).quantile(SAME_BOXES, interpolation='higher'))
