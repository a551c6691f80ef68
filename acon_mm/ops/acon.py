"""ACON as one operator: the entry that every module of acon_mm calls."""

import torch
from torch import Tensor

from .autograd import acon_by_kernel, acon_to_compile
from .backends import choose_kernel, is_compiled_for_training
from .formula import acon_formula


def acon(x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float) -> Tensor:
    """Apply ACON-C, ``(p1 - p2) * x * sigmoid(beta * (p1 - p2) * x) + p2 * x`` (Eq. 4).

    ACON-A (Swish) is ``p1 = 1, p2 = 0``, ACON-B is ``p1 = 1``. The sum runs in float32 (float64
    for a float64 ``x``) under autocast as well; only the result is rounded. Of the large tensors,
    ``x`` alone is saved for the backward pass.

    What computes it is chosen for each call, see :func:`acon_mm.ops.backend_report`.

    Args:
        x: A float tensor of shape ``(N, C, ...)`` in any memory format; ``N`` may be 0.
        p1: The slope for large ``x``: a number or a tensor of shape ``()`` or ``(C,)``, or of as
            many dimensions as ``x`` and broadcastable to it.
        p2: The slope for small ``x``, likewise.
        beta: The switching factor, likewise, or of shape ``(N, C)`` (per sample and channel) or
            ``(N, 1)`` (per sample).

    Returns:
        A tensor of the shape and dtype of ``x``.

    Raises:
        ValueError: If a parameter's shape does not fit ``x``.

    Examples:
        >>> import torch
        >>> x = torch.linspace(-2, 2, 12).view(1, 3, 4)
        >>> swish = acon(x, torch.ones(3), torch.zeros(3), torch.ones(3))
        >>> torch.allclose(swish, torch.nn.functional.silu(x))
        True
    """
    if torch.jit.is_scripting():
        return acon_formula(x, p1, p2, beta)
    else:  # what follows a return would be scripted as well
        kernel = choose_kernel(x, p1, p2, beta)
        if kernel is None:
            to_compile = is_compiled_for_training(x, p1, p2, beta)
            return (acon_to_compile if to_compile else acon_formula)(x, p1, p2, beta)
        return acon_by_kernel(kernel, x, p1, p2, beta)


def takes_formula(x: Tensor) -> bool:
    """Return whether :func:`acon` computes ``x`` by the formula, as it does for exporters.

    Args:
        x: Any tensor.
    """
    if torch.jit.is_scripting():
        return True
    else:  # what follows a return would be scripted as well
        return choose_kernel(x) is None
