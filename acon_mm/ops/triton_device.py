"""ACON on a GPU: the two Triton kernels, one for the value and one for all gradients.

A map is a number of *lines* of one length, for each sample or for all samples together. A line is
what one set of parameters serves: the plane of a channel, whose elements are adjacent, or a column
(channels-last maps, and small planes side by side), whose neighbours are adjacent. A program works
on tiles of ``block_lines`` lines times ``block_length`` of their elements. Axis 0 of the grid runs
along the lines, axis 1 over groups of lines, axis 2 over samples: no program has to divide before
it can load.

With ``d = p1 - p2``, ``z = beta * d * x``, ``s = sigmoid(z)``, the value is ``x * (d * s + p2)``
and its derivatives are ``p2 + d * h`` (x), ``x * h`` (p1), ``x * (1 - h)`` (p2) and
``d^2 * x^2 * t`` (beta), where ``t = s * (1 - s)`` and ``h = s + z * t``.

With ``pixel_wise``, beta is ``sigmoid(x)`` times a number. With a second map, ``x`` is the
difference of both, and the second one is added to the value: the smooth maximum of two.

This module needs triton; :mod:`acon_mm.ops.triton_kernel` imports it at the first launch.
"""

import inspect
import os

import torch
import triton
import triton.language as tl

# Integers that change from map to map. Triton would compile the kernels again whenever one of them
# is 1 or turns into a multiple of 16; what vector loads need to know is in ``align`` instead.
_SIZES = ['channels', 'lines', 'length', 'pixels', 'magic', 'tiles']
# Parameters and sums are small, wide loads of them gain nothing: where they lie is no reason to
# compile again. Older versions of Triton cannot be told.
_SMALL = ['p1_ptr', 'p2_ptr', 'beta_ptr', 'sums_ptr', 'stats_ptr', 'weight_ptr', 'bias_ptr']
_SMALL += ['dm_ptr', 'coefficients_ptr']
_OPTIONS = {'do_not_specialize': _SIZES}
if 'do_not_specialize_on_alignment' in inspect.signature(triton.jit).parameters:
    _OPTIONS['do_not_specialize_on_alignment'] = _SMALL

# Whether float32 takes the approximate instructions of an NVIDIA GPU. The interpreter has none.
_APPROXIMATE = tl.constexpr(
    os.environ.get('TRITON_INTERPRET') != '1' and torch.version.hip is None
)
_LOG2_E = tl.constexpr(1.4426950408889634)
_LARGEST = tl.constexpr(3.4028234663852886e38)

# How a line finds its channel.
LINES_ARE_CHANNELS = tl.constexpr(0)
PLANES_SIDE_BY_SIDE = tl.constexpr(1)
PIXELS_SIDE_BY_SIDE = tl.constexpr(2)


@triton.jit
def _widen(x, dtype: tl.constexpr):
    """Return x in the dtype of the computation."""
    if _APPROXIMATE and x.dtype == tl.bfloat16:
        # One instruction an element; by itself the compiler takes two for every other one.
        return tl.inline_asm_elementwise(
            'shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;',
            '=r,=r,r', [x], dtype=tl.float32, is_pure=True, pack=2,
        )  # fmt: skip
    else:
        return x.to(dtype)


# Of the approximate instructions, the relative errors are at most 2^-22 and 2^-23, and numbers
# below 2^-126 are 0. Rounding z changes exp(-|z|) by |z| * 2^-23 of it. So s and 1 - s, which are
# 1 and exp(-|z|) over 1 + exp(-|z|), have relative errors of at most (4 + |z|) * 2^-23.
@triton.jit
def _exp2_of_minus_abs(x):
    if _APPROXIMATE and x.dtype == tl.float32:
        return tl.inline_asm_elementwise(
            '{.reg .f32 t; abs.f32 t, $1; neg.f32 t, t; ex2.approx.ftz.f32 $0, t;}',
            '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1,
        )  # fmt: skip
    else:
        return tl.exp2(-tl.abs(x))


@triton.jit
def _exp2_of_minus(x):
    if _APPROXIMATE and x.dtype == tl.float32:
        return tl.inline_asm_elementwise(
            '{.reg .f32 t; neg.f32 t, $1; ex2.approx.ftz.f32 $0, t;}',
            '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1,
        )  # fmt: skip
    else:
        return tl.exp2(-x)


@triton.jit
def _reciprocal(x):
    if _APPROXIMATE and x.dtype == tl.float32:
        return tl.inline_asm_elementwise(
            'rcp.approx.ftz.f32 $0, $1;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1 / x


@triton.jit
def _value(x, d, p2, log2_e_beta_d):
    return x * (d * _reciprocal(1 + _exp2_of_minus(log2_e_beta_d * x)) + p2)


@triton.jit
def _sigmoid(x):
    return _reciprocal(1 + _exp2_of_minus(x * _LOG2_E))


@triton.jit
def _derivatives(g, x, beta_d, log2_e_beta_d):
    """Return h and g * x * s, g * x * (1 - s), g * x^2 * t.

    s and 1 - s have all their digits where they are small, and t is their product. An infinite x
    times a weight that vanished adds nothing.
    """
    w = log2_e_beta_d * x
    e = _exp2_of_minus_abs(w)
    near = _reciprocal(1 + e)
    far = e * near
    positive = w >= 0
    s = tl.where(positive, near, far)
    rest = tl.where(positive, far, near)
    finite = tl.where(far == 0, 0.0, x)
    xt = finite * (far * near)
    gx, g_finite = g * x, g * finite
    return (
        s + beta_d * xt,
        tl.where(positive, gx, g_finite) * s,
        tl.where(positive, g_finite, gx) * rest,
        g_finite * xt,
    )


@triton.jit
def _param(param, index, exists, is_number: tl.constexpr, dtype: tl.constexpr):
    """Return a parameter, which is a number or lies in memory, as a column."""
    if is_number:
        return tl.full((index.shape[0], 1), param, dtype)
    else:
        return tl.load(param + index, exists, 0.0)[:, None]


@triton.jit
def _params(
    p1_ptr, p2_ptr, beta_ptr, sample, first, channels, lines, magic,
    numbers: tl.constexpr, lookup: tl.constexpr, shared_beta: tl.constexpr,
    block_lines: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Return d, p2, beta * d (finite, so that it times 0 is 0) and log2(e) * beta * d."""
    line = first + tl.arange(0, block_lines)
    exists = line < lines
    channel = line
    if lookup != LINES_ARE_CHANNELS:
        # The quotient, by a product. The host has checked that it is exact.
        channel = tl.umulhi(2 * line, tl.full(line.shape, 0, tl.int32) + magic)
        if lookup == PIXELS_SIDE_BY_SIDE:
            channel = line - channel * channels
    p1 = _param(p1_ptr, channel, exists, numbers & 1, dtype)
    p2 = _param(p2_ptr, channel, exists, numbers & 2, dtype)
    # A bit for each of them is set in numbers.
    of_beta = channel if shared_beta else sample * channels + channel
    beta = _param(beta_ptr, of_beta, exists, numbers & 4, dtype)
    d = p1 - p2
    beta_d = beta * d
    finite = tl.minimum(tl.maximum(beta_d, -_LARGEST), _LARGEST)
    return d, p2, finite, beta_d * _LOG2_E


@triton.jit
def _say_align(lines, length, adjacent: tl.constexpr, align: tl.constexpr):
    """Return lines and length, one of which the compiler now knows to be a multiple of align."""
    if adjacent:
        lines = lines // align * align
    else:
        length = length // align * align
    return lines, length


@triton.jit
def _tile(
    sample, first, start, lines, length,
    adjacent: tl.constexpr, block_lines: tl.constexpr, block_length: tl.constexpr,
):  # fmt: skip
    """Return where a tile begins (64 bits), the offsets from there (32 bits) and which exist."""
    p = tl.arange(0, block_lines)[:, None]
    i = tl.arange(0, block_length)[None, :]
    begin = sample * lines * length
    if adjacent:
        begin += start * lines + first
        offsets = i * lines + p
    else:
        begin += first.to(tl.int64) * length + start
        offsets = p * length + i
    left = tl.minimum(length - start, block_length).to(tl.int32)
    return begin, offsets, (p < lines - first) & (i < left)


@triton.jit(**_OPTIONS)
def acon_forward(
    x_ptr, p1_ptr, p2_ptr, beta_ptr, y_ptr, channels, lines, length, magic, tiles,
    adjacent: tl.constexpr, lookup: tl.constexpr, shared_beta: tl.constexpr, align: tl.constexpr,
    block_lines: tl.constexpr, block_length: tl.constexpr, numbers: tl.constexpr,
    pixel_wise: tl.constexpr = False, second_ptr=None,
):  # fmt: skip
    """Write y of some tiles along the lines."""
    dtype: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    lines, length = _say_align(lines, length, adjacent, align)
    first, sample = tl.program_id(1) * block_lines, tl.program_id(2).to(tl.int64)
    d, p2, _, log2_e_beta_d = _params(
        p1_ptr, p2_ptr, beta_ptr, sample, first, channels, lines, magic,
        numbers, lookup, shared_beta, block_lines, dtype,
    )  # fmt: skip
    start = tl.program_id(0).to(tl.int64) * tiles * block_length
    for _ in range(tiles):
        begin, offsets, exists = _tile(
            sample, first, start, lines, length, adjacent, block_lines, block_length
        )
        x = _widen(tl.load(x_ptr + begin + offsets, exists, 0.0), dtype)
        if second_ptr is not None:
            second = _widen(tl.load(second_ptr + begin + offsets, exists, 0.0), dtype)
            y = second + _value(x - second, d, p2, log2_e_beta_d)
        elif pixel_wise:
            y = _value(x, d, p2, log2_e_beta_d * _sigmoid(x))
        else:
            y = _value(x, d, p2, log2_e_beta_d)
        tl.store(y_ptr + begin + offsets, y.to(y_ptr.dtype.element_ty), exists)
        start += block_length


@triton.jit(**_OPTIONS)
def acon_backward(
    g_ptr, x_ptr, p1_ptr, p2_ptr, beta_ptr, dx_ptr, sums_ptr,
    channels, lines, length, magic, tiles,
    adjacent: tl.constexpr, lookup: tl.constexpr, shared_beta: tl.constexpr, align: tl.constexpr,
    block_lines: tl.constexpr, block_length: tl.constexpr, numbers: tl.constexpr,
    need_dx: tl.constexpr, need_p1: tl.constexpr, need_p2: tl.constexpr, need_beta: tl.constexpr,
    pixel_wise: tl.constexpr = False, second_ptr=None, dsecond_ptr=None,
):  # fmt: skip
    """Write dx of some tiles along the lines, and their share of the parameters' gradients.

    The shares lie in ``sums`` of shape (needed, splits, samples, lines), the needed ones of p1, p2
    and beta. Nothing is added atomically, so that two runs give the same bits.
    """
    dtype: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    lines, length = _say_align(lines, length, adjacent, align)
    first, sample = tl.program_id(1) * block_lines, tl.program_id(2).to(tl.int64)
    d, p2, beta_d, log2_e_beta_d = _params(
        p1_ptr, p2_ptr, beta_ptr, sample, first, channels, lines, magic,
        numbers, lookup, shared_beta, block_lines, dtype,
    )  # fmt: skip
    # A sum for each element of a tile: the threads exchange them once, not after every tile.
    sum_s = tl.zeros((block_lines, block_length), dtype)
    sum_rest = tl.zeros((block_lines, block_length), dtype)
    sum_t = tl.zeros((block_lines, block_length), dtype)
    start = tl.program_id(0).to(tl.int64) * tiles * block_length
    for _ in range(tiles):
        begin, offsets, exists = _tile(
            sample, first, start, lines, length, adjacent, block_lines, block_length
        )
        # What does not exist adds g = 0 times numbers, which x = 0 and an infinite beta are not.
        x = _widen(tl.load(x_ptr + begin + offsets, exists, 1.0), dtype)
        g = _widen(tl.load(g_ptr + begin + offsets, exists, 0.0), dtype)
        if second_ptr is not None:
            x -= _widen(tl.load(second_ptr + begin + offsets, exists, 0.0), dtype)
        if pixel_wise:
            factor = _sigmoid(x)
            h, of_s, of_rest, of_t = _derivatives(g, x, beta_d * factor, log2_e_beta_d * factor)
            of_t *= factor
            dx = g * (p2 + d * h) + d * d * of_t * (1 - factor)
        else:
            h, of_s, of_rest, of_t = _derivatives(g, x, beta_d, log2_e_beta_d)
            dx = g * (p2 + d * h)
        if dsecond_ptr is not None:
            dsecond = (g - dx).to(dsecond_ptr.dtype.element_ty)
            tl.store(dsecond_ptr + begin + offsets, dsecond, exists)
        if need_dx:
            tl.store(dx_ptr + begin + offsets, dx.to(dx_ptr.dtype.element_ty), exists)
        if need_p1:
            sum_s += of_s
        if need_p2:
            sum_rest += of_rest
        sum_t += of_t
        start += block_length
    if need_p1 or need_p2 or need_beta:
        line = first + tl.arange(0, block_lines)[:, None]
        row = tl.program_id(0).to(tl.int64) * tl.num_programs(2) + sample
        to = sums_ptr + row * lines + line
        rows = tl.num_programs(0).to(tl.int64) * tl.num_programs(2)
        total_t = tl.sum(sum_t, 1)[:, None]
        if need_p1:
            tl.store(to, tl.sum(sum_s, 1)[:, None] + beta_d * total_t, line < lines)
            to += rows * lines
        if need_p2:
            tl.store(to, tl.sum(sum_rest, 1)[:, None] - beta_d * total_t, line < lines)
            to += rows * lines
        if need_beta:
            tl.store(to, d * d * total_t, line < lines)
