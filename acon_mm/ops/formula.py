"""Closed forms of *Activate or Not* (https://arxiv.org/abs/2009.04759), Eq. 1 to 8.

With ``d = p1 - p2``, ``z = beta * d * x``, ``s = sigmoid(z)`` and ``t = s * (1 - s)``::

    y     = x * (d * s + p2)
    dy/dx = p2 + d * h,  h = s + z * t

``h`` runs from 0 to 1 and overshoots both ends by 0.0998, at ``|z| = 2.39936``.

An infinite ``x`` has the gradients that finite ones tend to, in every kernel and in
:func:`acon_gradients`. ``h`` and ``1 - h`` fall like ``exp(-|z|)``, faster than ``x`` grows, so:

=========  =========  ==========  ==============  ==========
``z``      of ``x``   of ``p1``   of ``p2``       of ``beta``
=========  =========  ==========  ==============  ==========
``+inf``   ``p1``     ``x``       0               0
``-inf``   ``p2``     0           ``x``           0
NaN        NaN        NaN         NaN             NaN
=========  =========  ==========  ==============  ==========

The last row is ``beta * d = 0``. Where tracers and transforms differentiate
:func:`acon_formula` by themselves, all gradients of an infinite ``x`` are NaN.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .broadcast import align_all, compute_dtype

# The positive root of (z - 2) * exp(z) = z + 2, where the derivative of h vanishes (the equation
# after Eq. 7). There s = 1/2 + 1/z, which turns h = s + z * s * (1 - s) into 1/2 + z / 4.
_Z_EXTREME = 2.399357280515468
_H_MAX = 0.5 + _Z_EXTREME / 4


def smooth_maximum(xs: Sequence[Tensor], beta: Tensor | float) -> Tensor:
    """Compute the smooth maximum of any number of tensors (Eq. 1).

    It is the mean of ``xs`` weighted by ``softmax(beta * xs)``: the maximum for a large ``beta``,
    the arithmetic mean for ``beta = 0``, the minimum for a large negative ``beta``.

    Args:
        xs: One or more tensors of shapes that broadcast together.
        beta: The switching factor, a finite number or a tensor that broadcasts against ``xs``.

    Returns:
        A tensor of the broadcast shape. It does not overflow for a large ``beta``, since softmax
        subtracts the largest exponent first.

    Raises:
        ValueError: If ``xs`` is empty.

    Examples:
        >>> import torch
        >>> xs = [torch.tensor(1.0), torch.tensor(3.0)]
        >>> smooth_maximum(xs, 0.0), smooth_maximum(xs, 1e4)
        (tensor(2.), tensor(3.))
    """
    if len(xs) == 0:
        raise ValueError('xs must hold at least one tensor, but it is empty')
    stacked = torch.stack(torch.broadcast_tensors(*xs))
    weights = torch.softmax(beta * stacked, dim=0)
    return (weights * stacked).sum(dim=0)


def acon_formula(
    x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float
) -> Tensor:
    """Compute ACON (Eq. 4) with plain torch operations, differentiable any number of times.

    For an infinite ``x`` the product ``x * (d * s + p2)`` is an infinity of the right sign, where
    the published ``d * x * s + p2 * x`` is NaN whenever ``s`` is 0. The product is ``0 * inf``,
    hence NaN as well, if the slope on that side is 0, as at ``-inf`` for ``p2 = 0``, or if
    ``beta * d`` is 0. Arguments and result as in :func:`acon_mm.ops.acon`.
    """
    wide, a1, a2, factor = align_all(x, p1, p2, beta)
    d = a1 - a2
    return (wide * (d * torch.sigmoid(factor * d * wide) + a2)).to(x.dtype)


def fold_acon(
    p1: Tensor | float, p2: Tensor | float, beta: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute once what ACON computes of its parameters in each call.

    Args:
        p1: The slope for large ``x``, a number or a tensor of shape ``(C,)``.
        p2: The slope for small ``x``, likewise.
        beta: The switching factor, likewise.

    Returns:
        ``d = p1 - p2``, ``beta * d`` and ``p2``, as :func:`folded_acon_formula` takes them: of
        shape ``(C, 1, 1)``, or ``()`` where numbers alone went in.
    """
    d = torch.as_tensor(p1 - p2)
    folded = (d, beta * d, torch.as_tensor(p2))
    d, beta_d, last = (t.detach().clone().view(-1, 1, 1) if t.dim() else t for t in folded)
    return d, beta_d, last


def folded_acon_formula(x: Tensor, d: Tensor | None, beta_d: Tensor, p2: Tensor | None) -> Tensor:
    """Compute ``x * (d * sigmoid(beta * d * x) + p2)``, what is left of ACON after folding.

    For a 4-D float32 ``x`` these are five operations and no more in the graph of a tracer or an
    exporter; :func:`acon_formula` leaves three times as many there.

    Args:
        x: A float tensor of shape ``(N, C, ...)``.
        d: As :func:`fold_acon` returns it; None for 1.
        beta_d: ``beta * d``, as it returns it.
        p2: As it returns it; None for 0.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    dtype = compute_dtype(x)
    wide = x if x.dtype == dtype else x.to(dtype)
    y = torch.sigmoid(_beside(beta_d, x) * wide)
    if d is not None:
        y = _beside(d, x) * y
    if p2 is not None:
        y = y + _beside(p2, x)
    y = wide * y
    return y if y.dtype == x.dtype else y.to(x.dtype)


def _beside(folded: Tensor, x: Tensor) -> Tensor:
    if x.dim() == 4 or folded.dim() == 0:
        return folded
    return folded.view([-1] + [1] * (x.dim() - 2))


def acon_grad(x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float) -> Tensor:
    """Compute the first derivative of ACON with respect to ``x`` (Eq. 5), ``beta`` held fixed.

    Args:
        x: A float tensor of shape ``(N, C, ...)``.
        p1: The slope for large ``x``, shape ``(C,)``, or see :func:`acon_mm.ops.acon`.
        p2: The slope for small ``x``, likewise.
        beta: The switching factor, likewise.

    Returns:
        A tensor of the shape and dtype of ``x``.

    Raises:
        ValueError: If a parameter's shape does not fit ``x``.
    """
    wide, p1, p2, beta = align_all(x, p1, p2, beta)
    d = p1 - p2
    z = beta * d * wide
    # s * (1 - s) from exp(-|z|): 1 - s would lose all its digits for z > 16 in float32.
    e = torch.exp(-z.abs())
    t = e / (1 + e) ** 2
    # z * t is 0 at infinity, where the product would be inf * 0.
    zt = torch.where(t == 0, torch.zeros_like(t), z * t)
    return (p2 + d * (torch.sigmoid(z) + zt)).to(x.dtype)


def acon_gradients(
    g: Tensor,
    x: Tensor,
    p1: Tensor | float,
    p2: Tensor | float,
    beta: Tensor | float,
    needed: Sequence[bool] = (True,) * 4,
) -> tuple[Tensor | None, ...]:
    """Compute the gradients of the arguments of ACON, differentiable any number of times.

    With ``h`` as in the head of this file and ``t = s * (1 - s)``, they are ``p2 + d * h`` for
    ``x``, ``x * h`` for ``p1``, ``x * (1 - h)`` for ``p2`` and ``d^2 * x^2 * t`` for ``beta``,
    each times ``g`` and summed over what the parameter was broadcast to.

    Args:
        g: The gradient of the value, a float tensor of the shape of ``x``.
        x: A float tensor of shape ``(N, C, ...)``.
        p1: The slope for large ``x``, see :func:`acon_mm.ops.acon`.
        p2: The slope for small ``x``, likewise.
        beta: The switching factor, likewise.
        needed: Which of the four gradients are computed.

    Returns:
        The gradients of ``x``, ``p1``, ``p2`` and ``beta``, each of the shape and dtype of its
        argument; None for a number and for what is not needed.

    Raises:
        ValueError: If a parameter's shape does not fit ``x``.
    """
    wide, *aligned = align_all(x, p1, p2, beta)
    a1, a2, factor = aligned
    g = g.to(wide.dtype)
    d = a1 - a2
    z = factor * d * wide
    # 1 - s as a sigmoid of its own: the difference would lose all its digits for z > 16.
    s, rest = torch.sigmoid(z), torch.sigmoid(-z)
    t = s * rest
    # t vanishes long before z or x is infinite, where the products would be inf * 0.
    zt = torch.where(t == 0, 0, z) * t
    finite = torch.where(t == 0, 0, wide)
    h = s + zt
    of_params = (
        lambda: g * (torch.where(z < 0, finite, wide) * h),
        lambda: g * (torch.where(z > 0, finite, wide) * (rest - zt)),
        lambda: g * (finite * t) * finite * d * d,
    )
    dx = (g * (a2 + d * h)).to(x.dtype) if needed[0] else None
    return dx, *(
        gradient().sum_to_size(view.shape).view(param.shape).to(param.dtype)
        if need and isinstance(param, Tensor)
        else None
        for gradient, view, param, need in zip(
            of_params, aligned, (p1, p2, beta), needed[1:], strict=True
        )
    )


def acon_grad_bounds(
    p1: Tensor | float, p2: Tensor | float
) -> tuple[Tensor | float, Tensor | float]:
    """Compute the bounds of ACON's first derivative for ``beta > 0`` (Eq. 8).

    Args:
        p1: The slope for large ``x``, a number or a tensor.
        p2: The slope for small ``x``, a number or a tensor that broadcasts with ``p1``.

    Returns:
        The lower and the upper bound: ``1.0998 * p2 - 0.0998 * p1`` and
        ``1.0998 * p1 - 0.0998 * p2`` when ``p1 > p2``, exchanged otherwise. They are attained at
        ``|beta * (p1 - p2) * x| = 2.39936``. Numbers in, numbers out.

    Examples:
        >>> lower, upper = acon_grad_bounds(1.0, 0.0)  # Swish
        >>> f'{lower:.4f} {upper:.4f}'
        '-0.0998 1.0998'
    """
    a = p2 + (p1 - p2) * _H_MAX
    b = p1 + (p2 - p1) * _H_MAX
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.minimum(a, b), torch.maximum(a, b)
    return min(a, b), max(a, b)
