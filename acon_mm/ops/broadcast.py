"""How the parameters of ACON line up with a feature map."""

from typing import Any

import torch
from torch import Tensor


def align_all(
    x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return all arguments of ACON in the dtype of the computation, broadcastable to ``x``.

    Numbers stay numbers, which cost no tensor. Only a script turns them into tensors: its
    arithmetic has one type for each argument.

    Raises:
        ValueError: If a parameter's shape does not fit ``x``, see :func:`align`.
    """
    # Written out, because torch.jit.script knows no generators.
    dtype = compute_dtype(x)
    if torch.jit.is_scripting():
        return (
            x.to(dtype),
            align('p1', p1, x).to(dtype),
            align('p2', p2, x).to(dtype),
            align('beta', beta, x).to(dtype),
        )
    else:  # what follows a return would be scripted as well
        check_dimensions(x)
        aligned: list[Any] = [
            align(name, param, x).to(dtype) if isinstance(param, Tensor) else param
            for name, param in (('p1', p1), ('p2', p2), ('beta', beta))
        ]
        return x.to(dtype), aligned[0], aligned[1], aligned[2]


def check_dimensions(x: Tensor) -> None:
    """Raise a ``ValueError`` if ``x`` has no channels."""
    if x.dim() < 2:
        raise ValueError(
            f'x must have the shape (N, C, ...), but it has {_as_text(list(x.shape))}'
        )


def align(name: str, param: Tensor | float, x: Tensor) -> Tensor:
    """View a parameter of ACON so that it broadcasts against ``x``.

    Args:
        name: What the parameter is called, for the error message.
        param: A number or a tensor of shape ``()``, ``(C,)`` (one value per channel), ``(N, C)``
            or ``(N, 1)`` (one per sample and channel, or per sample), or of as many dimensions
            as ``x``, each of them 1 or that of ``x``.
        x: A tensor of shape ``(N, C, ...)``, at least 2-D.

    Returns:
        A view of ``param`` that broadcasts to ``x.shape``; of a number, a tensor of shape ``()``
        on the CPU. A 2-D ``x`` reads ``(C,)`` as one value per channel, too.

    Raises:
        ValueError: If ``x`` has fewer than two dimensions or ``param`` has another shape, except
            under ``torch.jit.trace``, which leaves the shapes to the operations.
    """
    check_dimensions(x)
    if not isinstance(param, Tensor):
        # On the CPU, where kernels of any device read a scalar: a copy to a GPU would synchronise.
        return torch.full([], param, dtype=compute_dtype(x), device='cpu')
    view = param
    if param.dim() == 1:
        view = param.view([1, -1] + [1] * (x.dim() - 2))
    elif param.dim() == 2:
        # Not reshape: the sizes would become nodes of an exporter's graph.
        for _ in range(x.dim() - 2):
            view = view.unsqueeze(2)
    # A tracer would warn that it records the outcome of each comparison.
    if not torch.jit.is_tracing() and not _fits(param, view, x):
        n, c = x.size(0), x.size(1)
        raise ValueError(
            f'{name} has the shape {_as_text(list(param.shape))}, which does not fit x of shape '
            f'{_as_text(list(x.shape))}: it may be a number, ({c},), ({n}, {c}), ({n}, 1) or '
            f'broadcastable with as many dimensions as x'
        )
    return view


def _fits(param: Tensor, view: Tensor, x: Tensor) -> bool:
    # A 1-D parameter of one element would silently spread over all channels.
    if param.dim() == 1:
        return param.size(0) == x.size(1)
    if view.dim() not in (0, x.dim()):
        return False
    for p, n in zip(view.shape, x.shape):  # noqa: B905, SIM110 - torch.jit.script
        if p != 1 and p != n:
            return False
    return True


def _as_text(shape: list[int]) -> str:
    # As tuple(shape) prints, which torch.jit.script does not know.
    sizes = ', '.join([str(size) for size in shape])
    return f'({sizes},)' if len(shape) == 1 else f'({sizes})'


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that ACON computes in: float64 for float64, float32 for all others."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def like(gradient: Tensor, param: Tensor) -> Tensor:
    """View the gradient of a parameter with its shape and strides, as DDP wants it.

    Args:
        gradient: A contiguous tensor of as many elements as ``param``.
        param: A parameter of any shape.

    Returns:
        A view, unless the order of the elements in memory differs: then a copy.
    """
    view = gradient.view(param.shape)
    if view.stride() == param.stride():
        return view
    if view.is_contiguous() and param.flatten(1).is_contiguous():  # of 1s the stride is free
        return view.as_strided(param.shape, param.stride())
    return torch.empty_like(param).copy_(view)
