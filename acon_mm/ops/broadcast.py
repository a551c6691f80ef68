"""How the small tensors of ACON line up with a feature map."""

import torch
from torch import Tensor


def align_all(
    x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return all arguments of ACON in the dtype of the computation, broadcastable to ``x``.

    Raises:
        ValueError: If a parameter's shape does not fit ``x``, see :func:`align`.
    """
    dtype = compute_dtype(x)
    named = (('p1', p1), ('p2', p2), ('beta', beta))
    return x.to(dtype), *(align(name, param, x).to(dtype) for name, param in named)


def align(name: str, param: Tensor | float, x: Tensor) -> Tensor:
    """View a parameter of ACON so that it broadcasts against ``x``.

    Args:
        name: What the parameter is called, for the error message.
        param: A number or a tensor of shape ``()``, ``(C,)`` (one value a channel), ``(N, C)`` or
            ``(N, 1)`` (one value a sample and channel, or a sample), or of as many dimensions
            as ``x``, each of them 1 or that of ``x``.
        x: A tensor of shape ``(N, C, ...)``, at least 2-D.

    Returns:
        A view of ``param`` that broadcasts to ``x.shape``; of a number, a tensor of shape ``()``
        on the CPU. A 2-D ``x`` reads ``(C,)`` as one value a channel, too.

    Raises:
        ValueError: If ``x`` has fewer than two dimensions or ``param`` has another shape.
    """
    if x.dim() < 2:
        raise ValueError(f'x must have the shape (N, C, ...), but it has {tuple(x.shape)}')
    if not isinstance(param, Tensor):
        # On the CPU, where kernels of any device read a scalar: copying it to a GPU would wait.
        return torch.as_tensor(param, dtype=compute_dtype(x), device='cpu')
    ones = (1,) * (x.dim() - 2)
    if param.dim() == 0:
        view = param
    elif param.dim() == 1:
        view = param.view(1, -1, *ones)
    elif param.dim() == 2:
        view = param.reshape(*param.shape, *ones)
    else:
        view = param
    fits = view.dim() in (0, x.dim()) and all(
        p in (1, n) for p, n in zip(view.shape, x.shape, strict=False)
    )
    # A 1-D parameter of one element would spread over all channels without a word.
    if param.dim() == 1 and param.size(0) != x.size(1):
        fits = False
    if not fits:
        n, c = x.shape[:2]
        raise ValueError(
            f'{name} has the shape {tuple(param.shape)}, which does not fit x of shape '
            f'{tuple(x.shape)}: it may be a number, ({c},), ({n}, {c}), ({n}, 1) or '
            f'broadcastable with as many dimensions as x'
        )
    return view


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that ACON computes in: float64 for float64, float32 for all others."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
