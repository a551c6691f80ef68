"""ACON on a GPU: the two Triton kernels, one for the value and one for all gradients.

A *plane* is one channel of one sample. A program works on tiles of ``block_planes`` planes times
``block_length`` of their elements, whatever the layout of the memory: a part of a large plane,
several small planes, or some channels of a few pixels (channels-last).

With ``d = p1 - p2``, ``z = beta * d * x``, ``s = sigmoid(z)``, the value is ``x * (d * s + p2)``
and its derivatives are ``p2 + d * h`` (x), ``x * h`` (p1), ``x * (1 - h)`` (p2) and
``d^2 * x^2 * t`` (beta), where ``t = s * (1 - s)`` and ``h = s + z * t``.

This module needs triton; :mod:`acon_mm.ops.triton_kernel` imports it at the first launch.
"""

import triton
import triton.language as tl

# Integers that change from map to map. Triton would compile the kernels again whenever one of them
# is 1 or turns into a multiple of 16; what vector loads need to know is in ``align`` instead.
_SIZES = ['planes', 'channels', 'length', 'splits', 'tiles', 'rows']


@triton.jit
def _gate(z):
    """Return s, 1 - s and s * (1 - s) for s = sigmoid(z), each without cancellation."""
    e = tl.exp(-tl.abs(z))
    near = 1 / (1 + e)
    far = e * near
    return tl.where(z >= 0, near, far), tl.where(z >= 0, far, near), far * near


@triton.jit
def _times(x, weight):
    """Return x * weight, and 0 where a weight that falls like exp(-|x|) meets an infinite x."""
    return tl.where(weight == 0, 0.0, x * weight)


@triton.jit
def _say_align(planes, length, channels_last: tl.constexpr, align: tl.constexpr):
    """Return planes and length, one of which the compiler now knows to be a multiple of align."""
    if channels_last:
        planes = planes // align * align
    else:
        length = length // align * align
    return planes, length


@triton.jit
def _planes_of_program(planes, splits, block_planes: tl.constexpr):
    """Return the program's sample, the first of its planes and which split of them it takes."""
    program = tl.program_id(0)
    group = program // splits
    groups = tl.cdiv(planes, block_planes)
    return (group // groups).to(tl.int64), group % groups * block_planes, program % splits


@triton.jit
def _param_of_planes(param, index, exists, is_number: tl.constexpr, dtype: tl.constexpr):
    """Return the values of a parameter: a number, or what is stored at some indices."""
    if is_number:
        return tl.full(index.shape, param, dtype)
    else:
        return tl.load(param + index, exists, 0.0)


@triton.jit
def _params_of_planes(
    p1_ptr, p2_ptr, beta_ptr, sample, plane, planes, channels,
    channels_last: tl.constexpr, shared_beta: tl.constexpr, p1_is_number: tl.constexpr,
    p2_is_number: tl.constexpr, beta_is_number: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Return d, p2 and beta * d of some planes, as columns."""
    # Without the remainder the compiler sees that channels-last parameters are adjacent.
    channel = plane if channels_last else plane % channels
    row = channel if shared_beta else sample * planes + plane
    p1 = _param_of_planes(p1_ptr, channel, plane < planes, p1_is_number, dtype)
    p2 = _param_of_planes(p2_ptr, channel, plane < planes, p2_is_number, dtype)
    beta = _param_of_planes(beta_ptr, row, plane < planes, beta_is_number, dtype)
    d = p1 - p2
    return d[:, None], p2[:, None], (beta * d)[:, None]


@triton.jit
def _tile(
    sample, first, start, planes, length,
    channels_last: tl.constexpr, block_planes: tl.constexpr, block_length: tl.constexpr,
):  # fmt: skip
    """Return where a tile begins (64 bits), the offsets from there (32 bits) and which exist."""
    p = tl.arange(0, block_planes)[:, None]
    i = tl.arange(0, block_length)[None, :]
    if channels_last:
        begin = (sample * length + start) * planes + first
        offsets = i * planes + p
    else:
        begin = first.to(tl.int64) * length + start
        offsets = p * length + i
    return begin, offsets, (p < planes - first) & (i < length - start)


@triton.jit(do_not_specialize=_SIZES)
def acon_forward(
    x_ptr, p1_ptr, p2_ptr, beta_ptr, y_ptr,
    planes, channels, length, splits,
    channels_last: tl.constexpr, shared_beta: tl.constexpr, align: tl.constexpr,
    block_planes: tl.constexpr, block_length: tl.constexpr, p1_is_number: tl.constexpr,
    p2_is_number: tl.constexpr, beta_is_number: tl.constexpr,
):  # fmt: skip
    """Write y of one tile; a plane has ``splits`` of them along its length."""
    dtype: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    planes, length = _say_align(planes, length, channels_last, align)
    sample, first, split = _planes_of_program(planes, splits, block_planes)
    plane = first + tl.arange(0, block_planes)
    d, p2, beta_d = _params_of_planes(
        p1_ptr, p2_ptr, beta_ptr, sample, plane, planes, channels, channels_last, shared_beta,
        p1_is_number, p2_is_number, beta_is_number, dtype,
    )  # fmt: skip
    start = split.to(tl.int64) * block_length
    begin, offsets, exists = _tile(
        sample, first, start, planes, length, channels_last, block_planes, block_length
    )
    x = tl.load(x_ptr + begin + offsets, exists, 0.0).to(dtype)
    s, _, _ = _gate(beta_d * x)
    y = x * (d * s + p2)
    tl.store(y_ptr + begin + offsets, y.to(y_ptr.dtype.element_ty), exists)


@triton.jit(do_not_specialize=_SIZES)
def acon_backward(
    g_ptr, x_ptr, p1_ptr, p2_ptr, beta_ptr, dx_ptr, sums_ptr,
    planes, channels, length, splits, tiles, rows,
    channels_last: tl.constexpr, shared_beta: tl.constexpr, align: tl.constexpr,
    block_planes: tl.constexpr, block_length: tl.constexpr, p1_is_number: tl.constexpr,
    p2_is_number: tl.constexpr, beta_is_number: tl.constexpr,
):  # fmt: skip
    """Write dx of some tiles along the length, and their share of the parameters' gradients.

    The shares lie in ``sums`` of shape (tensors, splits, rows): those of p1, p2 and beta that are
    tensors, one row for each plane of each sample. Nothing is added atomically, so that two runs
    give the same bits.
    """
    dtype: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    planes, length = _say_align(planes, length, channels_last, align)
    sample, first, split = _planes_of_program(planes, splits, block_planes)
    plane = first + tl.arange(0, block_planes)
    d, p2, beta_d = _params_of_planes(
        p1_ptr, p2_ptr, beta_ptr, sample, plane, planes, channels, channels_last, shared_beta,
        p1_is_number, p2_is_number, beta_is_number, dtype,
    )  # fmt: skip
    # A sum for each element of a tile: the threads exchange them once, not after every tile.
    sum_p1 = tl.zeros((block_planes, block_length), dtype)
    sum_p2 = tl.zeros((block_planes, block_length), dtype)
    sum_beta = tl.zeros((block_planes, block_length), dtype)
    for k in range(tiles):
        start = (split.to(tl.int64) * tiles + k) * block_length
        begin, offsets, exists = _tile(
            sample, first, start, planes, length, channels_last, block_planes, block_length
        )
        # Elements that do not exist are 0 and add nothing.
        x = tl.load(x_ptr + begin + offsets, exists, 0.0).to(dtype)
        g = tl.load(g_ptr + begin + offsets, exists, 0.0).to(dtype)
        s, one_minus_s, t = _gate(beta_d * x)
        xt = _times(x, t)
        zt = beta_d * xt
        h = s + zt
        dx = g * (p2 + d * h)
        tl.store(dx_ptr + begin + offsets, dx.to(dx_ptr.dtype.element_ty), exists)
        sum_p1 += g * _times(x, h)
        sum_p2 += g * _times(x, one_minus_s - zt)
        sum_beta += g * _times(x, xt)
    row = split.to(tl.int64) * rows + sample * planes + plane
    step = splits.to(tl.int64) * rows
    if not p1_is_number:
        tl.store(sums_ptr + row, tl.sum(sum_p1, 1), plane < planes)
        row += step
    if not p2_is_number:
        tl.store(sums_ptr + row, tl.sum(sum_p2, 1), plane < planes)
        row += step
    if not beta_is_number:
        tl.store(sums_ptr + row, tl.sum(sum_beta * d * d, 1), plane < planes)
