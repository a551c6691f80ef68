"""A batch norm and the activation after it on a GPU: the Triton kernels.

Forward, one pass over the map takes the statistics and a second one writes the output; backward,
one pass takes all sums and a second one writes the gradient. Between the passes, kernels over
``(N, C)`` or less compute what the second pass needs. Lines, tiles and the grid of the passes are
those of ``triton_device``, and so are the sums of the activation.

With ``mu`` and ``r`` the mean and 1 / std of the norm, ``c = x - mu``, ``k = weight * r`` and
``y = k * c + bias``, the output is the activation of ``y``. With its slope ``a``, the gradient of
``x`` is ``k * (g * a + dm / L + c0 + c1 * c)``, where ``dm`` is the gradient of the mean of ``y``
over the ``L`` pixels of a plane, which Meta-ACON takes, and ``c0`` and ``c1`` stand for the
gradients of ``mu`` and ``r``.

This module needs triton; :mod:`acon_mm.ops.triton_norm` imports it at the first launch.
"""

import triton
import triton.language as tl

from .triton_device import _OPTIONS, _derivatives, _param, _say_align, _tile, _value, _widen

RELU = tl.constexpr(0)
ACON = tl.constexpr(1)
# What beta has a value for.
CHANNEL = tl.constexpr(0)
PLANE = tl.constexpr(1)
SAMPLE = tl.constexpr(2)

_SMALL_SIZES = {
    'do_not_specialize': [
        *('samples', 'samples_of_sums', 'channels', 'splits', 'span', 'length'),
        *('inputs', 'outputs', 'next_outputs'),
    ]
}


@triton.jit
def _norm_of_lines(
    stats_ptr, weight_ptr, bias_ptr, line, lines,
    has_norm: tl.constexpr, affine: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Return mu, k and the bias of some lines, as columns."""
    exists = line < lines
    mu = _param(0.0 if not has_norm else stats_ptr, line, exists, not has_norm, dtype)
    k = _param(1.0 if not has_norm else stats_ptr + lines, line, exists, not has_norm, dtype)
    k *= _param(1.0 if not affine else weight_ptr, line, exists, not affine, dtype)
    bias = _param(0.0 if not affine else bias_ptr, line, exists, not affine, dtype)
    return mu, k, bias


@triton.jit
def _activation_of_lines(
    p1_ptr, p2_ptr, beta_ptr, sample, line, lines, kind: tl.constexpr, numbers: tl.constexpr,
    beta_of: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Return d, p2 and beta * d of some lines, as columns; zeros for ReLU."""
    exists = line < lines
    if kind == RELU:
        d = tl.zeros((line.shape[0], 1), dtype)
        p2, beta = d, d
    else:
        p2 = _param(p2_ptr, line, exists, numbers & 2, dtype)
        d = _param(p1_ptr, line, exists, numbers & 1, dtype) - p2
        if beta_of == SAMPLE:
            beta = tl.zeros((line.shape[0], 1), dtype) + tl.load(beta_ptr + sample)
        else:
            row = line if beta_of == CHANNEL else sample * lines + line
            beta = _param(beta_ptr, row, exists, numbers & 4, dtype)
    return d, p2, beta * d


@triton.jit
def _clamp(x):
    return tl.minimum(tl.maximum(x, -3.4028234663852886e38), 3.4028234663852886e38)


@triton.jit
def _slope(g, y, d, p2, beta_d, kind: tl.constexpr):
    """Return g times the slope at y, and the sums' terms of the parameters."""
    if kind == RELU:
        ga = tl.where(y <= 0, 0.0, g)
        return ga, ga, ga, ga
    else:
        h, of_s, of_rest, of_t = _derivatives(g, y, _clamp(beta_d), beta_d * 1.4426950408889634)
        return g * (p2 + d * h), of_s, of_rest, of_t


@triton.jit(**_OPTIONS)
def statistics(
    x_ptr, sums_ptr, lines, length, tiles,
    adjacent: tl.constexpr, align: tl.constexpr, block_lines: tl.constexpr,
    block_length: tl.constexpr,
):  # fmt: skip
    """Write mean and sum of squared deviations of each program's part of each line.

    They lie in ``sums`` of shape (2, splits, samples, lines). Deviations are taken from the mean
    of the first tile, so that a large mean costs no digits.
    """
    dtype: tl.constexpr = sums_ptr.dtype.element_ty
    lines, length = _say_align(lines, length, adjacent, align)
    first, sample = tl.program_id(1) * block_lines, tl.program_id(2).to(tl.int64)
    start = tl.program_id(0).to(tl.int64) * tiles * block_length
    count = tl.minimum(length - start, tiles * block_length).to(dtype)
    begin, offsets, exists = _tile(
        sample, first, start, lines, length, adjacent, block_lines, block_length
    )
    x = _widen(tl.load(x_ptr + begin + offsets, exists, 0.0), dtype)
    near = tl.sum(x, 1)[:, None] / tl.minimum(length - start, block_length).to(dtype)
    sum_1 = tl.zeros((block_lines, block_length), dtype)
    sum_2 = tl.zeros((block_lines, block_length), dtype)
    for _ in range(tiles):
        begin, offsets, exists = _tile(
            sample, first, start, lines, length, adjacent, block_lines, block_length
        )
        x = _widen(tl.load(x_ptr + begin + offsets, exists, 0.0), dtype)
        off = tl.where(exists, x - near, 0.0)
        sum_1 += off
        sum_2 += off * off
        start += block_length
    line = first + tl.arange(0, block_lines)[:, None]
    row = tl.program_id(0).to(tl.int64) * tl.num_programs(2) + sample
    to = sums_ptr + row * lines + line
    total = tl.sum(sum_1, 1)[:, None]
    tl.store(to, near + total / count, line < lines)
    to += tl.num_programs(0).to(tl.int64) * tl.num_programs(2) * lines
    tl.store(to, tl.sum(sum_2, 1)[:, None] - total * (total / count), line < lines)


@triton.jit(**_SMALL_SIZES)
def finish_statistics(
    sums_ptr, weight_ptr, bias_ptr, running_mean_ptr, running_var_ptr, stats_ptr, centred_ptr,
    mean_ptr, samples_of_sums, samples, channels, splits, span, length, momentum, eps,
    use_batch_stats: tl.constexpr, tracks: tl.constexpr, has_norm: tl.constexpr,
    affine: tl.constexpr, of_planes: tl.constexpr, block_rows: tl.constexpr,
    block_channels: tl.constexpr,
):  # fmt: skip
    """Write mu and r of some channels and, for Meta-ACON, the means of their planes.

    ``centred`` are the means of x - mu, ``mean`` those of y.
    """
    dtype: tl.constexpr = stats_ptr.dtype.element_ty
    c = tl.program_id(0) * block_channels + tl.arange(0, block_channels)[None, :]
    r = tl.arange(0, block_rows)[:, None]
    rows = splits * samples_of_sums
    mu = tl.zeros((1, block_channels), dtype)
    inverse = mu + 1
    if use_batch_stats:
        near = tl.load(sums_ptr + c, c < channels, 0.0)
        total = samples_of_sums.to(dtype) * length
        off = tl.zeros((block_rows, block_channels), dtype)
        for begin in range(0, rows, block_rows):
            row = begin + r
            exists = (row < rows) & (c < channels)
            count = tl.minimum(length - row // samples_of_sums * span, span).to(dtype)
            at = sums_ptr + row.to(tl.int64) * channels + c
            off += tl.where(exists, count * (tl.load(at, exists, 0.0) - near), 0.0)
        mu = near + tl.sum(off, 0)[None, :] / total
        squares = tl.zeros((block_rows, block_channels), dtype)
        for begin in range(0, rows, block_rows):
            row = begin + r
            exists = (row < rows) & (c < channels)
            count = tl.minimum(length - row // samples_of_sums * span, span).to(dtype)
            at = sums_ptr + row.to(tl.int64) * channels + c
            away = tl.load(at, exists, 0.0) - mu
            within = tl.load(at + rows.to(tl.int64) * channels, exists, 0.0)
            squares += tl.where(exists, within + count * away * away, 0.0)
        variance = tl.sum(squares, 0)[None, :] / total
        inverse = 1 / tl.sqrt(variance + eps)
        if tracks:
            old = tl.load(running_mean_ptr + c, c < channels, 0.0)
            tl.store(running_mean_ptr + c, old + momentum * (mu - old), c < channels)
            old = tl.load(running_var_ptr + c, c < channels, 0.0)
            new = variance * (total / (total - 1))
            tl.store(running_var_ptr + c, old + momentum * (new - old), c < channels)
    elif has_norm:
        mu = tl.load(running_mean_ptr + c, c < channels, 0.0)
        inverse = 1 / tl.sqrt(tl.load(running_var_ptr + c, c < channels, 1.0) + eps)
    tl.store(stats_ptr + c, mu, c < channels)
    tl.store(stats_ptr + channels + c, inverse, c < channels)
    if of_planes:
        k, bias = inverse, tl.zeros((1, block_channels), dtype)
        if affine:
            k *= tl.load(weight_ptr + c, c < channels, 0.0)
            bias = tl.load(bias_ptr + c, c < channels, 0.0)
        for begin in range(0, samples, block_rows):
            n = begin + r
            exists = (n < samples) & (c < channels)
            off = tl.zeros((block_rows, block_channels), dtype)
            for split in range(splits):
                count = tl.minimum(length - split * span, span).to(dtype)
                at = sums_ptr + (split * samples + n).to(tl.int64) * channels + c
                off += count * (tl.load(at, exists, 0.0) - mu)
            off /= length
            at = n.to(tl.int64) * channels + c
            tl.store(centred_ptr + at, off, exists)
            tl.store(mean_ptr + at, k * off + bias, exists)


@triton.jit(**_OPTIONS)
def apply(
    x_ptr, stats_ptr, weight_ptr, bias_ptr, p1_ptr, p2_ptr, beta_ptr, y_ptr,
    lines, length, tiles, kind: tl.constexpr, numbers: tl.constexpr, beta_of: tl.constexpr,
    has_norm: tl.constexpr, affine: tl.constexpr, adjacent: tl.constexpr, align: tl.constexpr,
    block_lines: tl.constexpr, block_length: tl.constexpr,
):  # fmt: skip
    """Write the activation of y for some tiles along the lines."""
    dtype: tl.constexpr = stats_ptr.dtype.element_ty
    lines, length = _say_align(lines, length, adjacent, align)
    first, sample = tl.program_id(1) * block_lines, tl.program_id(2).to(tl.int64)
    line = first + tl.arange(0, block_lines)
    mu, k, bias = _norm_of_lines(
        stats_ptr, weight_ptr, bias_ptr, line, lines, has_norm, affine, dtype
    )
    d, p2, beta_d = _activation_of_lines(
        p1_ptr, p2_ptr, beta_ptr, sample, line, lines, kind, numbers, beta_of, dtype
    )
    start = tl.program_id(0).to(tl.int64) * tiles * block_length
    for _ in range(tiles):
        begin, offsets, exists = _tile(
            sample, first, start, lines, length, adjacent, block_lines, block_length
        )
        y = (_widen(tl.load(x_ptr + begin + offsets, exists, 0.0), dtype) - mu) * k + bias
        if kind == RELU:
            y = tl.where(y <= 0, 0.0, y)
        else:
            y = _value(y, d, p2, beta_d * 1.4426950408889634)
        tl.store(y_ptr + begin + offsets, y.to(y_ptr.dtype.element_ty), exists)
        start += block_length


@triton.jit(**_OPTIONS)
def take_sums(
    g_ptr, x_ptr, stats_ptr, weight_ptr, bias_ptr, p1_ptr, p2_ptr, beta_ptr, dx_ptr, sums_ptr,
    lines, length, tiles, kind: tl.constexpr, numbers: tl.constexpr, beta_of: tl.constexpr,
    need_dx: tl.constexpr, need_act: tl.constexpr, need_norm: tl.constexpr,
    has_norm: tl.constexpr, affine: tl.constexpr, adjacent: tl.constexpr, align: tl.constexpr,
    block_lines: tl.constexpr, block_length: tl.constexpr,
):  # fmt: skip
    """Write each program's sums of each line and, where mu and r are constants, dx.

    The sums lie in ``sums`` of shape (2, 3 or 5, splits, samples, lines): those of the gradients
    of p1, p2 and beta, if the activation needs them, and of g * a and g * a * c.
    """
    dtype: tl.constexpr = stats_ptr.dtype.element_ty
    lines, length = _say_align(lines, length, adjacent, align)
    first, sample = tl.program_id(1) * block_lines, tl.program_id(2).to(tl.int64)
    line = first + tl.arange(0, block_lines)
    mu, k, bias = _norm_of_lines(
        stats_ptr, weight_ptr, bias_ptr, line, lines, has_norm, affine, dtype
    )
    d, p2, beta_d = _activation_of_lines(
        p1_ptr, p2_ptr, beta_ptr, sample, line, lines, kind, numbers, beta_of, dtype
    )
    sum_s = tl.zeros((block_lines, block_length), dtype)
    sum_rest = tl.zeros((block_lines, block_length), dtype)
    sum_t = tl.zeros((block_lines, block_length), dtype)
    sum_a = tl.zeros((block_lines, block_length), dtype)
    sum_ac = tl.zeros((block_lines, block_length), dtype)
    start = tl.program_id(0).to(tl.int64) * tiles * block_length
    for _ in range(tiles):
        begin, offsets, exists = _tile(
            sample, first, start, lines, length, adjacent, block_lines, block_length
        )
        centred = _widen(tl.load(x_ptr + begin + offsets, exists, 1.0), dtype) - mu
        g = _widen(tl.load(g_ptr + begin + offsets, exists, 0.0), dtype)
        ga, of_s, of_rest, of_t = _slope(g, k * centred + bias, d, p2, beta_d, kind)
        if need_dx:
            tl.store(dx_ptr + begin + offsets, (k * ga).to(dx_ptr.dtype.element_ty), exists)
        if need_act:
            sum_s += of_s
            sum_rest += of_rest
            sum_t += of_t
        if need_norm:
            # A slope p2 that is not 0 leaves g * p2, which is 0 where nothing exists.
            sum_a += ga
            sum_ac += ga * centred
        start += block_length
    at = line[:, None]
    row = tl.program_id(0).to(tl.int64) * tl.num_programs(2) + sample
    to = sums_ptr + row * lines + at
    step = tl.num_programs(0).to(tl.int64) * tl.num_programs(2) * lines
    if need_act:
        total_t = tl.sum(sum_t, 1)[:, None]
        of_z = _clamp(beta_d) * total_t
        tl.store(to, tl.sum(sum_s, 1)[:, None] + of_z, at < lines)
        tl.store(to + step, tl.sum(sum_rest, 1)[:, None] - of_z, at < lines)
        tl.store(to + 2 * step, d * d * total_t, at < lines)
        to += 3 * step
    if need_norm:
        tl.store(to, tl.sum(sum_a, 1)[:, None], at < lines)
        tl.store(to + step, tl.sum(sum_ac, 1)[:, None], at < lines)


@triton.jit
def _column_sums(sums_ptr, index, rows, c, channels, block_rows: tl.constexpr):
    """Return one of the sums of some channels, over all rows, of shape (1, channels)."""
    r = tl.arange(0, block_rows)[:, None]
    total = tl.zeros((block_rows, c.shape[1]), sums_ptr.dtype.element_ty)
    for begin in range(0, rows, block_rows):
        row = begin + r
        at = sums_ptr + (index * rows + row).to(tl.int64) * channels + c
        total += tl.load(at, (row < rows) & (c < channels), 0.0)
    return tl.sum(total, 0)[None, :]


@triton.jit(**_SMALL_SIZES)
def finish_sums(
    sums_ptr, stats_ptr, du_ptr, layer_ptr, centred_ptr, dm_ptr, grads_ptr, coefficients_ptr,
    samples_of_sums, samples, channels, splits, length, inputs,
    need_act: tl.constexpr, need_norm: tl.constexpr, use_batch_stats: tl.constexpr,
    dm_of: tl.constexpr, block_samples: tl.constexpr, block_rows: tl.constexpr,
    block_channels: tl.constexpr, block_inputs: tl.constexpr,
):  # fmt: skip
    """Write the gradients of some channels' parameters, and c0 and c1.

    ``grads`` is of shape (5, channels): p1, p2, beta, the norm's weight and its bias. ``dm_of``
    is 0 without ``dm``; 1 if it is the product of ``du``, of shape (samples, inputs), and
    ``layer``, a weight, which is written to ``dm``; 2 if it is there, one for each sample.
    """
    dtype: tl.constexpr = stats_ptr.dtype.element_ty
    c = tl.program_id(0) * block_channels + tl.arange(0, block_channels)[None, :]
    is_channel = c < channels
    rows = splits * samples_of_sums
    if need_act:
        for which in tl.static_range(3):
            total = _column_sums(sums_ptr, which, rows, c, channels, block_rows)
            tl.store(grads_ptr + which * channels + c, total, is_channel)
    dbias = tl.zeros((1, block_channels), dtype)
    dscale = tl.zeros((1, block_channels), dtype)
    if need_norm:
        dbias += _column_sums(sums_ptr, 3 if need_act else 0, rows, c, channels, block_rows)
        dscale += _column_sums(sums_ptr, 4 if need_act else 1, rows, c, channels, block_rows)
    if dm_of != 0:
        for begin in range(0, samples, block_samples):
            n = begin + tl.arange(0, block_samples)[:, None]
            exists = (n < samples) & is_channel
            at = n.to(tl.int64) * channels + c
            if dm_of == 1:
                dm = tl.zeros((block_samples, block_channels), dtype)
                for k in range(0, inputs, block_inputs):
                    i = k + tl.arange(0, block_inputs)[None, :]
                    du = tl.load(du_ptr + n * inputs + i, (n < samples) & (i < inputs), 0.0)
                    i = k + tl.arange(0, block_inputs)[:, None]
                    w = tl.load(layer_ptr + i * channels + c, (i < inputs) & is_channel, 0.0)
                    dm = tl.dot(du, w, dm, input_precision='ieee')
                tl.store(dm_ptr + at, dm, exists)
            else:
                dm = tl.load(dm_ptr + n, n < samples, 0.0)
            centred = tl.load(centred_ptr + at, exists, 0.0)
            dbias += tl.sum(tl.where(exists, dm, 0.0), 0)[None, :]
            dscale += tl.sum(dm * centred, 0)[None, :]
    inverse = tl.load(stats_ptr + channels + c, is_channel, 0.0)
    tl.store(grads_ptr + 3 * channels + c, dscale * inverse, is_channel)
    tl.store(grads_ptr + 4 * channels + c, dbias, is_channel)
    if use_batch_stats:
        total = samples.to(dtype) * length
        tl.store(coefficients_ptr + c, -dbias / total, is_channel)
        slope = -dscale * inverse * inverse / total
        tl.store(coefficients_ptr + channels + c, slope, is_channel)


@triton.jit(**_OPTIONS)
def write_dx(
    g_ptr, x_ptr, stats_ptr, weight_ptr, bias_ptr, p1_ptr, p2_ptr, beta_ptr, dm_ptr,
    coefficients_ptr, dx_ptr, lines, length, pixels, tiles,
    kind: tl.constexpr, numbers: tl.constexpr, beta_of: tl.constexpr, dm_of: tl.constexpr,
    use_batch_stats: tl.constexpr, has_norm: tl.constexpr, affine: tl.constexpr,
    adjacent: tl.constexpr, align: tl.constexpr, block_lines: tl.constexpr,
    block_length: tl.constexpr,
):  # fmt: skip
    """Write dx of some tiles along the lines."""
    dtype: tl.constexpr = stats_ptr.dtype.element_ty
    lines, length = _say_align(lines, length, adjacent, align)
    first, sample = tl.program_id(1) * block_lines, tl.program_id(2).to(tl.int64)
    line = first + tl.arange(0, block_lines)
    mu, k, bias = _norm_of_lines(
        stats_ptr, weight_ptr, bias_ptr, line, lines, has_norm, affine, dtype
    )
    d, p2, beta_d = _activation_of_lines(
        p1_ptr, p2_ptr, beta_ptr, sample, line, lines, kind, numbers, beta_of, dtype
    )
    c0 = tl.zeros((block_lines, 1), dtype)
    c1 = tl.zeros((block_lines, 1), dtype)
    if use_batch_stats:
        c0 = tl.load(coefficients_ptr + line, line < lines, 0.0)[:, None]
        c1 = tl.load(coefficients_ptr + lines + line, line < lines, 0.0)[:, None]
    if dm_of == 1:
        c0 += tl.load(dm_ptr + sample * lines + line, line < lines, 0.0)[:, None] / pixels
    if dm_of == 2:
        c0 += tl.load(dm_ptr + sample) / pixels
    start = tl.program_id(0).to(tl.int64) * tiles * block_length
    for _ in range(tiles):
        begin, offsets, exists = _tile(
            sample, first, start, lines, length, adjacent, block_lines, block_length
        )
        centred = _widen(tl.load(x_ptr + begin + offsets, exists, 0.0), dtype) - mu
        g = _widen(tl.load(g_ptr + begin + offsets, exists, 0.0), dtype)
        ga, _, _, _ = _slope(g, k * centred + bias, d, p2, beta_d, kind)
        dx = k * (ga + (c1 * centred + c0))
        tl.store(dx_ptr + begin + offsets, dx.to(dx_ptr.dtype.element_ty), exists)
        start += block_length


@triton.jit(**_SMALL_SIZES)
def layer_forward(
    from_ptr, weight_ptr, bias_ptr, norm_weight_ptr, norm_bias_ptr, running_mean_ptr,
    running_var_ptr, normal_ptr, inverse_ptr, to_ptr, samples, inputs, outputs, momentum, eps,
    use_batch_stats: tl.constexpr, is_last: tl.constexpr, block_samples: tl.constexpr,
    block_inputs: tl.constexpr, block_outputs: tl.constexpr,
):  # fmt: skip
    """Write some outputs of a linear layer and a batch norm, all samples of them.

    ``normal`` is what the norm has before its weight and bias, of shape (samples, outputs). The
    last layer ends in a sigmoid.
    """
    n = tl.arange(0, block_samples)[:, None]
    o = tl.program_id(0) * block_outputs + tl.arange(0, block_outputs)[None, :]
    u = tl.zeros((block_samples, block_outputs), tl.float32)
    for k in range(0, inputs, block_inputs):
        i = k + tl.arange(0, block_inputs)[None, :]
        x = tl.load(from_ptr + n * inputs + i, (n < samples) & (i < inputs), 0.0)
        i = k + tl.arange(0, block_inputs)[:, None]
        w = tl.load(weight_ptr + o * inputs + i, (i < inputs) & (o < outputs), 0.0)
        u = tl.dot(x, w, u, input_precision='ieee')
    is_output = o < outputs
    u += tl.load(bias_ptr + o, is_output, 0.0)
    if use_batch_stats:
        exists = n < samples
        mean = tl.sum(tl.where(exists, u, 0.0), 0)[None, :] / samples
        off = tl.where(exists, u - mean, 0.0)
        variance = tl.sum(off * off, 0)[None, :] / samples
        old = tl.load(running_mean_ptr + o, is_output, 0.0)
        tl.store(running_mean_ptr + o, old + momentum * (mean - old), is_output)
        old = tl.load(running_var_ptr + o, is_output, 0.0)
        new = variance * (samples / (samples - 1))
        tl.store(running_var_ptr + o, old + momentum * (new - old), is_output)
    else:
        mean = tl.load(running_mean_ptr + o, is_output, 0.0)
        variance = tl.load(running_var_ptr + o, is_output, 0.0)
    inverse = 1 / tl.sqrt(variance + eps)
    tl.store(inverse_ptr + o, inverse, is_output)
    normal = (u - mean) * inverse
    at, exists = n * outputs + o, (n < samples) & is_output
    tl.store(normal_ptr + at, normal, exists)
    y = normal * tl.load(norm_weight_ptr + o, is_output, 0.0)
    y += tl.load(norm_bias_ptr + o, is_output, 0.0)
    if is_last:
        y = tl.sigmoid(y)
    tl.store(to_ptr + at, y, exists)


@triton.jit(**_SMALL_SIZES)
def layer_backward(
    sums_ptr, beta_ptr, next_du_ptr, next_weight_ptr, from_ptr, norm_weight_ptr, normal_ptr,
    inverse_ptr, du_ptr, dweight_ptr, grads_ptr,
    samples, inputs, outputs, next_outputs, splits,
    use_batch_stats: tl.constexpr, is_last: tl.constexpr, block_samples: tl.constexpr,
    block_inputs: tl.constexpr, block_outputs: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a linear layer and a batch norm for some outputs.

    ``du`` is the gradient before the norm, ``grads`` of shape (3, outputs): the layer's bias, the
    norm's weight and its bias. The gradient of the last layer's output comes from the sums of the
    map, that of the other one from ``du`` and the weight of the last.
    """
    n = tl.arange(0, block_samples)[:, None]
    o = tl.program_id(0) * block_outputs + tl.arange(0, block_outputs)[None, :]
    is_output = o < outputs
    at, exists = n * outputs + o, (n < samples) & is_output
    dy = tl.zeros((block_samples, block_outputs), tl.float32)
    if is_last:
        for split in range(splits):
            row = (2 * splits + split) * samples + n
            dy += tl.load(sums_ptr + row.to(tl.int64) * outputs + o, exists, 0.0)
        beta = tl.load(beta_ptr + at, exists, 0.0)
        dy *= beta * (1 - beta)
    else:
        for k in range(0, next_outputs, block_inputs):
            i = k + tl.arange(0, block_inputs)[None, :]
            next_du = tl.load(
                next_du_ptr + n * next_outputs + i, (n < samples) & (i < next_outputs), 0.0
            )
            i = k + tl.arange(0, block_inputs)[:, None]
            w = tl.load(next_weight_ptr + i * outputs + o, (i < next_outputs) & is_output, 0.0)
            dy = tl.dot(next_du, w, dy, input_precision='ieee')
    normal = tl.load(normal_ptr + at, exists, 0.0)
    of_weight, of_bias = tl.sum(dy * normal, 0)[None, :], tl.sum(dy, 0)[None, :]
    if use_batch_stats:
        dy -= (of_bias + normal * of_weight) / samples
    scale = tl.load(norm_weight_ptr + o, is_output, 0.0)
    scale *= tl.load(inverse_ptr + o, is_output, 0.0)
    du = tl.where(exists, dy * scale, 0.0)
    tl.store(du_ptr + at, du, exists)
    tl.store(grads_ptr + o, tl.sum(du, 0)[None, :], is_output)
    tl.store(grads_ptr + outputs + o, of_weight, is_output)
    tl.store(grads_ptr + 2 * outputs + o, of_bias, is_output)
    o = tl.program_id(0) * block_outputs + tl.arange(0, block_outputs)[:, None]
    turned = tl.trans(du)
    for k in range(0, inputs, block_inputs):
        i = k + tl.arange(0, block_inputs)[None, :]
        x = tl.load(from_ptr + n * inputs + i, (n < samples) & (i < inputs), 0.0)
        dweight = tl.dot(turned, x, input_precision='ieee')
        tl.store(dweight_ptr + o * inputs + i, dweight, (o < outputs) & (i < inputs))


@triton.jit(**_SMALL_SIZES)
def sum_forward(mean_ptr, beta_ptr, channels, block_channels: tl.constexpr):
    """Write the layer-wise switching factor of a sample, the sigmoid of its means' sum."""
    n = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, block_channels)
    total = tl.zeros((block_channels,), mean_ptr.dtype.element_ty)
    for begin in range(0, channels, block_channels):
        total += tl.load(mean_ptr + n * channels + begin + c, begin + c < channels, 0.0)
    z = tl.sum(total, 0)
    # Not tl.sigmoid, which is of float32.
    tl.store(beta_ptr + n, 1 / (1 + tl.exp(-z)))


@triton.jit(**_SMALL_SIZES)
def sum_backward(sums_ptr, beta_ptr, dm_ptr, channels, splits, block_channels: tl.constexpr):
    """Write the gradient of a sample's means, which is the same for all channels."""
    n, samples = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    c = tl.arange(0, block_channels)
    total = tl.zeros((block_channels,), sums_ptr.dtype.element_ty)
    for begin in range(0, channels, block_channels):
        for split in range(splits):
            row = (2 * splits + split) * samples + n
            total += tl.load(sums_ptr + row * channels + begin + c, begin + c < channels, 0.0)
    beta = tl.load(beta_ptr + n)
    tl.store(dm_ptr + n, tl.sum(total, 0) * beta * (1 - beta))
