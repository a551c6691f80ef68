"""The Triton kernels for GPUs: how they are launched, the kernels are in ``triton_device``.

Triton compiles them when they are first needed. Where it interprets them instead
(``TRITON_INTERPRET=1``, set before triton is imported), tensors may be on the CPU.
"""

import math
import os
import shutil
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from .broadcast import compute_dtype

# Threads of a program, triton's default.
_THREADS = 128
# Adjacent channels of a channels-last tile: 128 bytes of a 16-bit type, one cache line.
_CHANNELS = 64
# A backward program takes four tiles, or as many more as leave about 4096 programs: the partial
# sums that each of them writes are then less than a tenth of what is read and written. Constants,
# so that results do not depend on the model of the GPU.
_TILES, _PROGRAMS = 4, 4096


def why_unavailable() -> str | None:
    """Return why these kernels cannot be used, None if they can."""
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
    devices = range(torch.cuda.device_count())
    major, minor = min(torch.cuda.get_device_capability(device) for device in devices)
    if major < 8:
        return f'triton needs compute capability 8.0, but a GPU here has {major}.{minor}'
    # Triton builds a small C library when it first meets a GPU.
    if not (os.environ.get('CC') or shutil.which('gcc') or shutil.which('clang')):
        return 'triton needs a C compiler: gcc, clang or what the environment variable CC names'
    return None


def describe() -> str:
    """Say what these kernels are."""
    return 'Triton kernels'


def forward(x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float) -> Tensor:
    """Compute ACON (Eq. 4).

    Args:
        x: A float16, bfloat16, float32 or float64 tensor of shape ``(N, C, ...)``, at least 2-D.
            It is copied unless its memory is contiguous or channels-last.
        p1: The slope for large ``x``, a number or a tensor of shape ``(C,)``, float64 if ``x`` is
            and else float32.
        p2: The slope for small ``x``, likewise.
        beta: The switching factor, likewise, a tensor of shape ``(C,)``, ``(1, C)`` or ``(N, C)``.

    Returns:
        A tensor of the shape, dtype and strides of ``x`` (contiguous where ``x`` was copied).
    """
    x = _packed(x)
    y = torch.empty_like(x)
    if x.numel() == 0:
        return y
    from .triton_device import acon_forward  # needs triton

    tiling = tile(x, beta)
    params = [_passed(param, x) for param in (p1, p2, beta)]
    with torch.cuda.device_of(x):
        acon_forward[(tiling.groups * tiling.tiles,)](
            x, *params, y, *tiling.sizes, tiling.tiles, **tiling.constants,
            **_are_numbers(*params),
        )  # fmt: skip
    return y


def backward(
    g: Tensor, x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float
) -> tuple[Tensor | None, ...]:
    """Compute the gradients of ACON with respect to all of its arguments.

    Two runs give the same bits: each program writes the sums over its own elements, and these are
    added up afterwards.

    Args:
        g: The gradient of the output, of the shape of ``x`` and any float dtype. It is copied
            unless its memory is ordered like that of ``x``.
        x: As in :func:`forward`.
        p1: As in :func:`forward`.
        p2: As in :func:`forward`.
        beta: As in :func:`forward`.

    Returns:
        The gradient of ``x``, of its shape, dtype and strides (contiguous where ``x`` was copied),
        and those of ``p1``, ``p2`` and ``beta``, of their shapes and dtypes; None for a number.
    """
    x = _packed(x)
    dx = torch.empty_like(x)
    given = (p1, p2, beta)
    if x.numel() == 0:
        return dx, *(p.new_zeros(p.shape) if isinstance(p, Tensor) else None for p in given)
    from .triton_device import acon_backward  # needs triton

    tiling = tile(x, beta)
    g = _packed(g, bool(tiling.constants['channels_last']))
    params = [_passed(param, x) for param in given]
    count = sum(isinstance(param, Tensor) for param in params)
    most = max(_TILES, tiling.groups * tiling.tiles // _PROGRAMS)
    splits = math.ceil(tiling.tiles / most)
    per_split = math.ceil(tiling.tiles / splits)
    sums = None
    if count > 0:
        dtype = compute_dtype(x)
        sums = torch.empty((count, splits, tiling.rows), dtype=dtype, device=x.device)
    with torch.cuda.device_of(x):
        acon_backward[(tiling.groups * splits,)](
            g, x, *params, dx, sums, *tiling.sizes, splits, per_split, tiling.rows,
            **tiling.constants, **_are_numbers(*params),
        )  # fmt: skip
    if sums is None:
        return dx, None, None, None
    sums = sums.view(count, splits, -1, x.size(1))
    if tiling.constants['shared_beta']:
        found = iter(sums.sum((1, 2)))
    else:
        found = iter([*sums[:-1].sum((1, 2)), sums[-1].sum(0)])
    grads = [next(found) if isinstance(param, Tensor) else None for param in params]
    return dx, *(
        grad.view_as(param) if grad is not None and isinstance(param, Tensor) else None
        for grad, param in zip(grads, given, strict=True)
    )


class Tiling(NamedTuple):
    """How tiles cover a feature map.

    Attributes:
        sizes: The planes of a sample, the channels and the length of a plane.
        constants: What the kernels are compiled for.
        groups: The number of tiles that cover the planes of all samples.
        tiles: The number of tiles along the length of a plane.
        rows: The number of planes of all samples.
    """

    sizes: tuple[int, int, int]
    constants: dict[str, bool | int]
    groups: int
    tiles: int
    rows: int


def tile(x: Tensor, beta: Tensor | float) -> Tiling:
    """Cover a contiguous or channels-last map with tiles of 128 bits per thread.

    The kernels are compiled for two flags and three powers of two, not for a shape: a detector
    whose maps differ from image to image meets new kernels a handful of times.

    Args:
        x: A tensor of shape ``(N, C, ...)`` that is not empty.
        beta: The switching factor, a number or of shape ``(C,)``, ``(1, C)`` or ``(N, C)``.
    """
    samples, channels = x.shape[:2]
    length = math.prod(x.shape[2:])
    shared = not isinstance(beta, Tensor) or beta.numel() == channels
    # Where every plane is one element, the channels of a contiguous tensor are adjacent, too.
    channels_last = length == 1 or not x.is_contiguous()
    align = math.gcd(channels if channels_last else length, 8)
    # Eight 16-bit elements per thread where one load reads them, elsewhere four: fewer registers.
    elements = _THREADS * min(16 // x.element_size(), max(4, align))
    if channels_last:
        samples, planes, length = (
            (1, channels, samples * length) if shared else (samples, channels, length)
        )
        block_planes = min(_power_of_2(planes), _CHANNELS)
        block_length = min(_power_of_2(length), elements // block_planes)
    else:
        # The planes of all samples follow one another: small ones share a tile.
        samples, planes = 1, samples * channels
        block_length = min(_power_of_2(length), elements)
        block_planes = min(_power_of_2(planes), elements // block_length)
    return Tiling(
        sizes=(planes, channels, length),
        constants=dict(
            channels_last=channels_last,
            shared_beta=shared,
            align=align,
            block_planes=block_planes,
            block_length=block_length,
        ),
        groups=samples * math.ceil(planes / block_planes),
        tiles=math.ceil(length / block_length),
        rows=samples * planes,
    )


def _power_of_2(n: int) -> int:
    """Return the smallest power of two that is not below ``n``."""
    return 1 << (n - 1).bit_length()


def _passed(param: Tensor | float, x: Tensor) -> Tensor | float:
    """Return a parameter as it is passed to a kernel."""
    if isinstance(param, Tensor):
        return param.contiguous()
    if x.dtype == torch.float64:  # Triton passes numbers as float32
        return torch.full(x.shape[1:2], param, dtype=x.dtype, device=x.device)
    return param


def _are_numbers(*params: Tensor | float) -> dict[str, bool]:
    """Return which of p1, p2 and beta are numbers, as constants of the kernels."""
    return {
        f'{name}_is_number': not isinstance(param, Tensor)
        for name, param in zip(('p1', 'p2', 'beta'), params, strict=True)
    }


def _packed(x: Tensor, channels_last: bool | None = None) -> Tensor:
    """Return x with contiguous or, if asked for or if it is already, channels-last memory."""
    last = x.movedim(1, -1)
    if channels_last is None:
        channels_last = not x.is_contiguous() and last.is_contiguous()
    return last.contiguous().movedim(-1, 1) if channels_last else x.contiguous()
