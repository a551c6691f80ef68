"""A batch norm and the activation after it on a GPU: how the kernels are launched.

The two functions :func:`norm_act_forward` and :func:`norm_act_backward` are those of
:mod:`acon_mm.ops.cpu_kernel`, of the same arguments and results. The kernels are in
``triton_norm_device``.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .broadcast import compute_dtype
from .triton_kernel import Tiling, channels_adjacent, packed, passed, tile

# The most samples of channel-wise Meta-ACON: a program holds all of them for some columns of a
# layer, whose norm then needs nothing of other programs; more would not fit its registers. Each
# layer is a launch of its own, as the second one needs all columns of the first.
MAX_SAMPLES = 256
_ACON_KINDS = ('acon', 'channel_wise', 'layer_wise')
_META = {'channel_wise': 1, 'layer_wise': 2}


def can_compute(x: Tensor, kind: str) -> bool:
    """Return whether the kernels take a map.

    Args:
        x: A tensor of shape ``(N, C, ...)`` that is not empty.
        kind: The kind of the activation.
    """
    if kind == 'channel_wise' and (x.size(0) > MAX_SAMPLES or x.dtype == torch.float64):
        return False  # layers are multiplied in float32
    return _tile(x, kind) is not None


def norm_act_forward(x: Tensor, norm: Any, act: Any) -> list[Tensor]:
    """Compute a batch norm and an activation, see :func:`acon_mm.ops.norm_act.norm_act`.

    Args:
        x: A tensor of shape ``(N, C, ...)``, see :func:`can_compute`.
        norm: An ``acon_mm.ops.norm_act.Norm``, or None.
        act: An ``acon_mm.ops.norm_act.Activation``.

    Returns:
        The value, with the strides of ``torch.empty_like(x)``, and what
        :func:`norm_act_backward` needs besides: first the mean and 1 / std that the norm used, of
        shape ``(2, C)``.
    """
    y = torch.empty_like(x)
    if channels_adjacent(y) is None:
        found = norm_act_forward(x.contiguous(), norm, act)
        return [y.copy_(found[0]), *found[1:]]
    x = packed(x, y)
    meta = act.kind in _META
    sums = None
    if meta or norm.use_batch_stats:
        sums = take_statistics(x, act.kind)
    with torch.cuda.device_of(x):
        if norm and norm.exchange:
            norm = _joined(x, sums, norm, act.kind)
        stats, *means = _finish_statistics(x, sums, norm, act.kind)
        params, kept = list(act.params), []
        if act.kind == 'channel_wise':
            hidden = _layer_forward(means[1], act.layers[0], act.use_batch_stats, False)
            last = _layer_forward(hidden[2], act.layers[1], act.use_batch_stats, True)
            params.append(last[2])
            kept = [last[2], *hidden, *last[:2]]
        elif act.kind == 'layer_wise':
            beta = x.new_empty(x.size(0), dtype=stats.dtype)
            device_code().sum_forward[(x.size(0),)](means[1], beta, x.size(1), block_channels=256)
            params.append(beta)
            kept = [beta]
        arguments, constants = _of_lines(x, norm, act.kind, params, stats)
        tiling = _tile(x, act.kind)
        device_code().apply[tiling.grid](x, *arguments, y, *_sizes(tiling), **constants)
    return [y, stats, *means, *kept]


def norm_act_backward(
    g: Tensor,
    args: Sequence[Any],
    kept: Sequence[Any],
    norm: Any,
    act: Any,
    with_dx: bool,
) -> list[Any]:
    """Compute the gradients of ``args``.

    Args:
        g: The gradient of the value, of the shape of ``x``, in any memory format.
        args: ``x``, the norm's weight and bias, the parameters of the activation, and weight,
            bias and the norm's weight and bias of both its layers.
        kept: What :func:`norm_act_forward` returned besides the value.
        norm: As there.
        act: As there.
        with_dx: Whether the gradient of ``x`` is needed.

    Returns:
        The gradients, in the shapes and dtypes of what they belong to; None for a number, for
        what is not there and for a gradient of ``x`` that is not needed.
    """
    x, weight, bias, *rest = args
    dx = torch.empty_like(x)
    if channels_adjacent(dx) is None:
        found = norm_act_backward(g, [x.contiguous(), *args[1:]], kept, norm, act, with_dx)
        return [dx.copy_(found[0]) if with_dx else None, *found[1:]]
    x, g = packed(x, dx), packed(g, dx)
    samples, channels = x.shape[:2]
    params, layers = rest[: len(act.params)], rest[len(act.params) :]
    norm = norm and norm._replace(weight=weight, bias=bias)
    use_batch_stats = bool(norm and norm.use_batch_stats)
    stats, *kept = kept
    dm_of = _META.get(act.kind, 0)
    centred: Any = kept.pop(0) if dm_of else None
    mean: Any = kept.pop(0) if dm_of else None
    beta = kept[:1] if dm_of else []
    arguments, constants = _of_lines(x, norm, act.kind, [*params, *beta], stats)
    tiling = _tile(x, act.kind)
    # Whether dx needs no sum.
    at_once = with_dx and not use_batch_stats and dm_of == 0
    need = dict(
        need_act=dm_of > 0 or any(isinstance(p, Tensor) for p in params),
        need_norm=norm is not None and (use_batch_stats or weight is not None),
    )
    with torch.cuda.device_of(x):
        sums = _take_sums(g, x, dx, arguments, constants, tiling, at_once, **need)
        of_layers: list[Any] = [None] * len(layers)
        dm = du = first_weight = None
        if act.kind == 'channel_wise':
            beta, (normal_1, inverse_1, hidden), (normal_2, inverse_2) = (
                kept[0],
                kept[1:4],
                kept[4:],
            )
            du_2, *of_last = _layer_backward(
                layers[4:],
                hidden,
                normal_2,
                inverse_2,
                act.use_batch_stats,
                act.layers[1].exchange,
                sums=sums,
                beta=beta,
                splits=tiling.grid[0],
            )
            du, *of_first = _layer_backward(
                layers[:4],
                mean,
                normal_1,
                inverse_1,
                act.use_batch_stats,
                act.layers[0].exchange,
                next_du=du_2,
                next_weight=layers[4],
            )
            of_layers = [*of_first, *of_last]
            dm, first_weight = stats.new_empty(samples, channels), _flat(layers[0])
        elif act.kind == 'layer_wise':
            dm = stats.new_empty(samples)
            device_code().sum_backward[(samples,)](
                sums, kept[0], dm, channels, tiling.grid[0], block_channels=256
            )
        grads: Any = None
        coefficients = None
        if sums is not None:
            grads = stats.new_empty(5, channels)
            coefficients = stats.new_empty(2, channels) if use_batch_stats else None
            inputs = 1 if du is None else du.size(1)
            block_samples = _power_of_2(samples) if dm_of == 1 else 64
            block_channels = 16 if dm_of == 1 else 8
            device_code().finish_sums[(-(-channels // block_channels),)](
                sums, stats, du, first_weight, centred, dm, grads, coefficients,
                tiling.grid[2], samples, channels, tiling.grid[0], x[0, 0].numel(), inputs,
                use_batch_stats=use_batch_stats, dm_of=dm_of, block_rows=128,
                block_channels=block_channels, **need, **_blocks(block_samples),
            )  # fmt: skip
        if norm and norm.exchange and with_dx:
            shares = norm.exchange.average(torch.cat([grads[4], grads[3] / stats[1]]))
            coefficients = shares.to(stats.dtype).view(2, channels).neg_()
            coefficients[1] *= stats[1] * stats[1]
        if with_dx and not at_once:
            device_code().write_dx[tiling.grid](
                g, x, *arguments, dm, coefficients, dx,
                *_sizes(tiling)[:2], x[0, 0].numel(), *_sizes(tiling)[2:],
                dm_of=dm_of, use_batch_stats=use_batch_stats, **constants,
            )  # fmt: skip
    of_params = [grads[i] if isinstance(p, Tensor) else None for i, p in enumerate(params)]
    of_norm = [None if p is None else grads[3 + i] for i, p in enumerate((weight, bias))]
    return [dx if with_dx else None, *of_norm, *of_params, *of_layers]


def take_statistics(x: Tensor, kind: str) -> Tensor:
    """Return mean and sum of squared deviations of each part of each line.

    Returns:
        A tensor of shape ``(2, splits, samples, C)``, where one sample stands for all of them
        if the activation needs no means of planes and the layout allows it.
    """
    tiling = _tile(x, kind)
    splits, _, samples = tiling.grid
    sums = x.new_empty(2, splits, samples, x.size(1), dtype=compute_dtype(x))
    constants = _layout(tiling)
    with torch.cuda.device_of(x):
        device_code().statistics[tiling.grid](x, sums, *_sizes(tiling), **constants)
    return sums


def _finish_statistics(x: Tensor, sums: Tensor | None, norm: Any, kind: str) -> list[Tensor]:
    """Return mean and 1 / std and, for Meta-ACON, the planes' means of x - mu and of y."""
    samples, channels = x.shape[:2]
    stats = x.new_empty(2, channels, dtype=compute_dtype(x))
    meta = kind in _META
    means = [stats.new_empty(samples, channels) for _ in range(2)] if meta else []
    tiling = _tile(x, kind)
    weight, bias, running_mean, running_var, momentum, eps, use_batch_stats, _ = norm or (
        *(None,) * 4, 0.0, 0.0, False, None,
    )  # fmt: skip
    device_code().finish_statistics[(-(-channels // 8),)](
        sums, weight, bias, running_mean, running_var, stats, *(means or (None, None)),
        tiling.grid[2], samples, channels, tiling.grid[0],
        tiling.sizes[4] * tiling.constants['block_length'], tiling.sizes[2], momentum, eps,
        use_batch_stats=use_batch_stats, tracks=use_batch_stats and running_mean is not None,
        has_norm=norm is not None, affine=weight is not None, of_planes=meta,
        block_rows=128, block_channels=8,
    )  # fmt: skip
    return [stats, *means]


def _joined(x: Tensor, sums: Tensor | None, norm: Any, kind: str) -> Any:
    """Return a norm that takes the statistics of the batches of all processes as given ones."""
    alone = norm._replace(running_mean=None, running_var=None)
    local, *_ = _finish_statistics(x, sums, alone, kind)
    return _join(norm, local[0], local[1], x.numel() // x.size(1))._replace(use_batch_stats=False)


def _join(part: Any, mean: Tensor, inverse: Tensor, count: int) -> Any:
    """Return a norm or layer whose running statistics are those of the batch, joined."""
    moments = torch.cat([mean, inverse, mean.new_full((1,), count)])
    joined = part.exchange.join(moments, part.running_mean, part.running_var, part.momentum)
    mean, var = joined[:-1].to(moments.dtype).chunk(2)
    return part._replace(running_mean=mean, running_var=var)


def _take_sums(
    g: Tensor,
    x: Tensor,
    dx: Tensor,
    arguments: Sequence[Tensor | float | None],
    constants: dict[str, Any],
    tiling: Tiling,
    need_dx: bool,
    need_act: bool,
    need_norm: bool,
) -> Tensor | None:
    """Return the sums of each part of each line, None if there are none; write dx if needed."""
    if not (need_dx or need_act or need_norm):
        return None
    count = 3 * need_act + 2 * need_norm
    splits, _, samples = tiling.grid
    shape = (count, splits, samples, x.size(1))
    sums = x.new_empty(shape, dtype=compute_dtype(x)) if count else None
    device_code().take_sums[tiling.grid](
        g, x, *arguments, dx if need_dx else None, sums, *_sizes(tiling), **constants,
        need_dx=need_dx, need_act=need_act, need_norm=need_norm,
    )  # fmt: skip
    return sums


def _layer_forward(
    x: Tensor, layer: Any, use_batch_stats: bool, is_last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the norm has before its weight, its 1 / std and the layer's output."""
    samples, inputs = x.shape
    weight = _flat(layer.weight)
    outputs = weight.size(0)
    if use_batch_stats and layer.exchange:
        var, mean = torch.var_mean(F.linear(x, weight, layer.bias), 0, correction=0)
        layer = _join(layer, mean, (var + layer.eps).rsqrt(), samples)
        use_batch_stats = False
    normal, inverse, y = (
        x.new_empty(s) for s in ((samples, outputs), outputs, (samples, outputs))
    )
    device_code().layer_forward[(-(-outputs // 16),)](
        x, weight, *(t.contiguous() for t in layer[1:6]), normal, inverse, y,
        samples, inputs, outputs, layer.momentum, layer.eps,
        use_batch_stats=use_batch_stats, is_last=is_last, block_outputs=16,
        **_blocks(_power_of_2(samples)),
    )  # fmt: skip
    return normal, inverse, y


def _layer_backward(
    layer: Sequence[Tensor],
    x: Tensor,
    normal: Tensor,
    inverse: Tensor,
    use_batch_stats: bool,
    exchange: Any,
    sums: Tensor | None = None,
    beta: Tensor | None = None,
    splits: int = 0,
    next_du: Tensor | None = None,
    next_weight: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Return the gradient before the norm and those of weight, bias and the norm's of a layer."""
    samples, inputs = x.shape
    outputs = inverse.size(0)
    du, grads = torch.empty_like(normal), x.new_empty(3, outputs)
    dweight = torch.empty_like(layer[0])  # strides of the parameter, as DDP wants them
    target = dweight if _is_flat(dweight) else x.new_empty(outputs, inputs)
    device_code().layer_backward[(-(-outputs // 16),)](
        sums, beta, next_du, None if next_weight is None else _flat(next_weight), x,
        layer[2].contiguous(), normal, inverse, du, target, grads,
        samples, inputs, outputs, 0 if next_du is None else next_du.size(1), splits,
        use_batch_stats=use_batch_stats and not exchange, is_last=sums is not None,
        block_outputs=16, **_blocks(_power_of_2(samples)),
    )  # fmt: skip
    if use_batch_stats and exchange:  # so far, du is that of given statistics
        shares = exchange.average(torch.cat([grads[2], grads[1] / inverse])).to(x.dtype)
        of_mean, of_inverse = shares.view(2, outputs)
        du -= layer[2] * inverse * (of_mean + normal * (inverse * of_inverse))
        torch.mm(du.t(), x, out=target.view(outputs, inputs))
        torch.sum(du, 0, out=grads[0])
    if target is not dweight:
        dweight.copy_(target.view_as(dweight))
    return du, dweight, *grads


@cache
def device_code() -> ModuleType:
    """Return the module of the kernels, which needs triton."""
    return import_module('.triton_norm_device', __package__)


def _tile(x: Tensor, kind: str) -> Any:  # a Tiling, or None where can_compute() is False
    adjacent = bool(channels_adjacent(x))
    return tile(x.shape, x.element_size(), adjacent, kind not in _META, side_by_side=False)


def _sizes(tiling: Tiling) -> tuple[int, int, int]:
    _, lines, length, _, tiles = tiling.sizes
    return lines, length, tiles


def _layout(tiling: Tiling) -> dict[str, bool | int]:
    names = ('adjacent', 'align', 'block_lines', 'block_length', 'num_warps')
    return {name: tiling.constants[name] for name in names}


def _of_lines(
    x: Tensor, norm: Any, kind: str, params: Sequence[Tensor | float], stats: Tensor
) -> tuple[list[Tensor | float | None], dict[str, Any]]:
    """Return what lines have: the arguments for the kernels of the passes, and their constants."""
    given, numbers = passed(params, x) if params else ([None] * 3, 0)
    affine = norm is not None and norm.weight is not None
    of_norm = [t.contiguous() for t in norm[:2]] if affine else [None, None]
    constants = dict(
        kind=int(kind in _ACON_KINDS),
        numbers=numbers,
        beta_of=_META.get(kind, 0),
        has_norm=norm is not None,
        affine=affine,
        **_layout(_tile(x, kind)),
    )
    return [stats, *of_norm, *given], constants


def _flat(weight: Tensor) -> Tensor:
    return weight.flatten(1).contiguous()


def _is_flat(weight: Tensor) -> bool:
    return weight.flatten(1).is_contiguous()


def _power_of_2(n: int) -> int:
    return max(16, 1 << (n - 1).bit_length())


def _blocks(block_samples: int) -> dict[str, int]:
    """Return how much of the layers a program takes at once, and its warps.

    No kernel spills with these numbers, compiled for compute capability 8.0 and 9.0.
    """
    return dict(
        block_samples=block_samples,
        block_inputs=32 if block_samples in (16, 32, 128) else 16,
        num_warps=4 if block_samples <= 32 else 8,
    )
