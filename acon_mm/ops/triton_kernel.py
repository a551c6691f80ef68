"""The Triton kernels for GPUs: how they are launched, the kernels are in ``triton_device``.

Triton compiles them when they are first needed. Where it interprets them instead
(``TRITON_INTERPRET=1``, set before triton is imported), tensors may be on the CPU.
"""

import math
import os
import shutil
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import plain_kernel
from .broadcast import compute_dtype

# Threads of a program, triton's default.
_THREADS = 128
# Programs take several tiles each where a map has more tiles than this, about one for each place
# that a large GPU has for them. A constant, so that results do not depend on the model of the GPU.
_PROGRAMS = 1024
# The most programs along axis 1 and 2 of a grid.
_GRID_LIMIT = 65535
# Up to this size, planes that share their parameters with those of 16 samples or more lie side by
# side: no tile has a tail then. A program takes 32 samples or more, because it writes the sums of
# each element, 12 bytes.
_SMALL_PLANE, _MANY_SAMPLES, _SAMPLES_OF_PROGRAM = 256, 16, 32


def why_unavailable(device: int | None = None) -> str | None:
    """Return why these kernels cannot be used, None if they can.

    Args:
        device: The number of the GPU that is asked for; None for any.
    """
    interpreted = os.environ.get('TRITON_INTERPRET') == '1'
    if not interpreted and not torch.cuda.is_available():
        return 'torch sees no GPU'
    if find_spec('triton') is None:
        return 'triton is not installed'
    try:
        import_module('triton')
    except ImportError as error:
        return f'triton does not load: {error}'
    if interpreted:
        return None
    devices = range(torch.cuda.device_count()) if device is None else [device]
    major, minor = max(torch.cuda.get_device_capability(device) for device in devices)
    if major < 8:
        return f'triton needs compute capability 8.0, but the GPU has {major}.{minor}'
    # Triton builds a small C library when it first meets a GPU.
    if not (os.environ.get('CC') or shutil.which('gcc') or shutil.which('clang')):
        return 'triton needs a C compiler: gcc, clang or what the environment variable CC names'
    return None


def describe() -> str:
    """Say what these kernels are."""
    return 'Triton kernels'


def forward(
    x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float | None
) -> Tensor:
    """Compute ACON (Eq. 4).

    Args:
        x: A float16, bfloat16, float32 or float64 tensor of shape ``(N, C, ...)``, at least 2-D.
            It is copied unless its memory is contiguous or channels-last.
        p1: The slope for large ``x``, a number or a tensor of shape ``(C,)``, float64 if ``x`` is
            and else float32.
        p2: The slope for small ``x``, likewise.
        beta: The switching factor, likewise, a tensor of shape ``(C,)``, ``(1, C)`` or ``(N, C)``;
            None for ``sigmoid(x)``, element by element.

    Returns:
        A tensor of the shape and dtype of ``x``, and of the strides of ``torch.empty_like(x)``.
    """
    y = torch.empty_like(x)
    if x.numel() == 0:
        return y
    adjacent = channels_adjacent(y)
    if adjacent is None:
        return y.copy_(forward(x.contiguous(), p1, p2, beta))
    tiling = tile(x.shape, x.element_size(), adjacent, _is_shared(beta, x))
    if tiling is None:
        assert beta is not None, 'see fits()'
        return plain_kernel.forward(x, p1, p2, beta)
    params, numbers = passed((p1, p2, 1.0 if beta is None else beta), x)
    with torch.cuda.device_of(x):
        device_code().acon_forward[tiling.grid](
            packed(x, y), *params, y, *tiling.sizes, **tiling.constants, numbers=numbers,
            pixel_wise=beta is None,
        )  # fmt: skip
    return y


def backward(
    g: Tensor,
    x: Tensor,
    p1: Tensor | float,
    p2: Tensor | float,
    beta: Tensor | float | None,
    needed: Sequence[bool] = (True,) * 4,
) -> tuple[Tensor | None, ...]:
    """Compute the gradients of ACON with respect to its arguments.

    Two runs give the same bits: each program writes the sums over its own elements, and these are
    added up afterwards.

    Args:
        g: The gradient of the output, of the shape of ``x`` and any float dtype. It is copied
            unless its memory is ordered like that of ``x``.
        x: As in :func:`forward`.
        p1: As in :func:`forward`.
        p2: As in :func:`forward`.
        beta: As in :func:`forward`.
        needed: Which of the gradients are computed.

    Returns:
        The gradient of ``x``, of its shape and dtype and of the strides of
        ``torch.empty_like(x)``, and those of ``p1``, ``p2`` and ``beta``, of their shapes and
        dtypes. None for a number and for what is not needed.
    """
    params: tuple[Any, ...] = (p1, p2, beta)
    needs = [need and isinstance(p, Tensor) for need, p in zip(needed[1:], params, strict=True)]
    dx = torch.empty_like(x)
    if x.numel() == 0:
        zeros = (
            p.new_zeros(p.shape) if need else None for p, need in zip(params, needs, strict=True)
        )
        return dx if needed[0] else None, *zeros
    adjacent = channels_adjacent(dx)
    if adjacent is None:
        found, *grads = backward(g, x.contiguous(), p1, p2, beta, needed)
        return None if found is None else dx.copy_(found), *grads
    tiling = tile(x.shape, x.element_size(), adjacent, _is_shared(beta, x))
    if tiling is None:
        assert beta is not None, 'see fits()'
        return plain_kernel.backward(g, x, p1, p2, beta, needed)
    rows = tiling.grid[0] * tiling.grid[2]
    sums = None
    if any(needs):
        shape = (sum(needs), rows, tiling.sizes[1])
        sums = torch.empty(shape, dtype=compute_dtype(x), device=x.device)
    as_passed, numbers = passed((p1, p2, 1.0 if beta is None else beta), x)
    with torch.cuda.device_of(x):
        device_code().acon_backward[tiling.grid](
            packed(g, dx), packed(x, dx), *as_passed, dx if needed[0] else None, sums,
            *tiling.sizes, **tiling.constants, numbers=numbers, need_dx=needed[0],
            pixel_wise=beta is None,
            **dict(zip(('need_p1', 'need_p2', 'need_beta'), needs, strict=True)),
        )  # fmt: skip
    totals = iter(() if sums is None else _add_up(sums, tiling, needs[2]))
    of_params = (
        next(totals).view_as(p) if need else None for p, need in zip(params, needs, strict=True)
    )
    return dx if needed[0] else None, *of_params


def maximum_forward(x1: Tensor, x2: Tensor) -> Tensor:
    """Compute ``x2 + d * sigmoid(d)``, ``d = x1 - x2``, see :mod:`acon_mm.ops.maximum`.

    Args:
        x1: A tensor as :func:`forward` takes it.
        x2: A tensor of its shape.

    Returns:
        A tensor of the shape and dtype of ``x1``, of the strides of ``torch.empty_like(x1)``.
    """
    y = torch.empty_like(x1)
    if channels_adjacent(y) is None:
        return y.copy_(maximum_forward(x1.contiguous(), x2))
    if x1.numel() > 0:
        tiling, numbers = _tile_flat(y), passed((1.0, 0.0, 1.0), _flat(y))
        with torch.cuda.device_of(x1):
            device_code().acon_forward[tiling.grid](
                packed(x1, y), *numbers[0], y, *tiling.sizes, **tiling.constants,
                numbers=numbers[1], second_ptr=packed(x2, y),
            )  # fmt: skip
    return y


def maximum_backward(g: Tensor, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of both maps, in their shapes and dtypes."""
    dx1 = torch.empty_like(x1)
    if channels_adjacent(dx1) is None:
        found = maximum_backward(g, x1.contiguous(), x2)
        return dx1.copy_(found[0]), found[1]
    dx2 = torch.empty_like(dx1, dtype=x2.dtype)
    if x1.numel() > 0:
        tiling, numbers = _tile_flat(dx1), passed((1.0, 0.0, 1.0), _flat(dx1))
        with torch.cuda.device_of(x1):
            device_code().acon_backward[tiling.grid](
                packed(g, dx1), packed(x1, dx1), *numbers[0], dx1, None, *tiling.sizes,
                **tiling.constants, numbers=numbers[1], need_dx=True, need_p1=False,
                need_p2=False, need_beta=False, second_ptr=packed(x2, dx1), dsecond_ptr=dx2,
            )  # fmt: skip
    return dx1, dx2


def fits(x: Tensor) -> bool:
    """Return whether the grids for a map with parameters of its channels are small enough."""
    return max(x.shape[:2]) <= _GRID_LIMIT


def _flat(x: Tensor) -> Tensor:
    # Parameters that are numbers have no channels: a map is one line, whatever its layout.
    return x.as_strided((1, 1, x.numel()), (x.numel(), x.numel(), 1))


def _tile_flat(x: Tensor) -> Any:  # a Tiling: one line needs no large grid
    return tile(_flat(x).shape, x.element_size(), False, True)


def _add_up(sums: Tensor, tiling: 'Tiling', need_beta: bool) -> list[Tensor]:
    """Return the gradients that the programs' sums (needed, splits * samples, lines) make up."""
    (splits, _, samples), (channels, lines, *_) = tiling.grid, tiling.sizes
    if tiling.constants['lookup'] == 1:
        return list(sums.view(len(sums), splits, channels, -1).sum((1, 3)))
    sums = sums.view(len(sums), splits, samples, lines // channels, channels)
    if tiling.constants['shared_beta'] or not need_beta:
        return list(_total(sums, (1, 2, 3)))
    slopes = _total(sums[:-1], (1, 2, 3)) if len(sums) > 1 else ()
    return [*slopes, _total(sums[-1], (0, 2))]


def _total(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    # A sum over one element would be a launch that copies.
    return x.squeeze(dims) if all(x.size(dim) == 1 for dim in dims) else x.sum(dims)


class Tiling(NamedTuple):
    """How tiles cover a feature map, see ``triton_device``.

    Attributes:
        grid: The number of programs along the lines, over groups of lines and over samples.
        sizes: The channels, the lines, their length, what divides by a product, and the tiles of
            a program.
        constants: What the kernels are compiled for.
    """

    grid: tuple[int, int, int]
    sizes: tuple[int, int, int, int, int]
    constants: dict[str, bool | int]


@lru_cache(1024)
def tile(
    shape: torch.Size, itemsize: int, adjacent: bool, shared: bool, side_by_side: bool = True
) -> Tiling | None:
    """Cover a contiguous or channels-last map with tiles.

    The kernels are compiled for a few flags and powers of two, not for a shape: a detector whose
    maps differ from image to image meets new kernels a handful of times.

    Args:
        shape: The shape ``(N, C, ...)`` of a map that is not empty.
        itemsize: The bytes of an element.
        adjacent: Whether channels are adjacent in its memory.
        shared: Whether all samples have the same switching factors.
        side_by_side: Whether lines may be columns of several planes or pixels.

    Returns:
        The tiles, None if the grid that they need is larger than a GPU allows.
    """
    samples, channels = shape[:2]
    lines, length = channels, math.prod(shape[2:])
    lookup, magic = 0, 1
    if adjacent:
        if shared:
            samples, length = 1, samples * length
        # Pixels side by side until whole tiles of 64 lines fit.
        repeats = 64 // math.gcd(channels, 64)
        if side_by_side and 1 < repeats <= 8 and length % repeats == 0:
            lookup, magic = 2, math.ceil(2**31 / channels)
            lines, length = channels * repeats, length // repeats
    elif (
        side_by_side
        and shared
        and samples >= _MANY_SAMPLES
        and length <= _SMALL_PLANE
        and channels * length**2 < 2**31  # else the product does not always divide
    ):
        adjacent, lookup, magic = True, 1, math.ceil(2**31 / length)
        samples, lines, length = 1, channels * length, samples
    align, warps = math.gcd(lines if adjacent else length, 8), 4
    # Loads of 128 bits, if they are so wide: two per thread, or one where each element has its own
    # parameters and sums or where these take two registers. Else more registers for nothing.
    loads = 1 if adjacent or itemsize == 8 else 2
    elements = _THREADS * min(loads * 16 // itemsize, max(4, 2 * align))
    if adjacent:
        most = min(512, elements)
        block_lines = _fitting(lines, most, max(16, most // _power_of_2(length)))
        block_length = min(_power_of_2(length), elements // block_lines)
        reach = block_length * lines
    else:
        # A warp of its own for each tile of short lines: a thread then has several elements of a
        # line, for which it loads the parameters once.
        warps = 1 if length <= _SMALL_PLANE else 4
        elements = min(elements, 64 * max(4, align) * warps)
        shortest = min(_power_of_2(length), 64)
        block_lines = _fitting(lines, elements // shortest, 4)
        block_length = min(_power_of_2(length), elements // block_lines)
        reach = block_lines * length
    if reach >= 2**31:  # offsets within a tile have 32 bits
        block_lines, block_length = (block_lines, 1) if adjacent else (1, block_length)
    groups = math.ceil(lines / block_lines)
    if max(groups, samples) > _GRID_LIMIT:
        return None
    tiles = math.ceil(length / block_length)
    per_program = max(1, tiles * groups * samples // _PROGRAMS)
    if lookup == 1:
        per_program = max(per_program, _SAMPLES_OF_PROGRAM // block_length)
    splits = math.ceil(tiles / min(tiles, per_program))
    return Tiling(
        grid=(splits, groups, samples),
        sizes=(channels, lines, length, magic, math.ceil(tiles / splits)),
        constants=dict(
            adjacent=adjacent,
            lookup=lookup,
            shared_beta=shared,
            align=align,
            block_lines=block_lines,
            block_length=block_length,
            num_warps=warps,
        ),
    )


def _fitting(size: int, most: int, least: int) -> int:
    """Return the power of two in a range whose multiples exceed ``size`` by least."""
    fits = [1 << n for n in range((least - 1).bit_length(), most.bit_length()) if 1 << n <= most]
    fits = [block for block in fits if block < 2 * size] or [_power_of_2(size)]
    return min(reversed(fits), key=lambda block: math.ceil(size / block) * block)


def _power_of_2(n: int) -> int:
    """Return the smallest power of two that is not below ``n``."""
    return 1 << (n - 1).bit_length()


@cache
def device_code() -> ModuleType:
    """Return the module of the kernels, which needs triton."""
    return import_module('.triton_device', __package__)


def channels_adjacent(x: Tensor) -> bool | None:
    """Return whether neighbours in memory are channels, or pixels; None if they are neither."""
    if x.is_contiguous():
        # Where every plane is one element, the channels of a contiguous tensor are adjacent, too.
        return x.shape[2:].numel() == 1
    return True if x.movedim(1, -1).is_contiguous() else None


def packed(x: Tensor, like: Tensor) -> Tensor:
    """Return x with its memory ordered as that of another tensor."""
    if x.is_neg():
        x = x.resolve_neg()
    if channels_adjacent(x) is channels_adjacent(like):
        return x
    return torch.empty_like(like, dtype=x.dtype).copy_(x)


def _is_shared(beta: Tensor | float | None, x: Tensor) -> bool:
    return not isinstance(beta, Tensor) or beta.numel() == x.size(1)


def passed(params: Sequence[Tensor | float], x: Tensor) -> tuple[list[Tensor | float], int]:
    """Return parameters as they are passed to a kernel, and a bit for each that is a number."""
    if x.dtype == torch.float64:  # Triton passes numbers as float32
        params = [
            p
            if isinstance(p, Tensor)
            else torch.full(x.shape[1:2], p, dtype=x.dtype, device=x.device)
            for p in params
        ]
    numbers = sum(1 << i for i, p in enumerate(params) if not isinstance(p, Tensor))
    return [p.resolve_neg().contiguous() if isinstance(p, Tensor) else p for p in params], numbers
