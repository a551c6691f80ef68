"""The kernel for everything else: torch operations, on any device.

It reads and writes the map more often than a compiled kernel, but saves as little.
"""

from collections.abc import Sequence

from torch import Tensor

from .formula import acon_formula, acon_gradients


def why_unavailable(device: int | None = None) -> None:
    """Return None: this kernel can always be used."""


def describe() -> str:
    """Say what this kernel is."""
    return 'plain torch operations'


def forward(x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float) -> Tensor:
    """Compute ACON, as :func:`acon_mm.ops.cpu_kernel.forward` does."""
    return acon_formula(x, p1, p2, beta)


def backward(
    g: Tensor,
    x: Tensor,
    p1: Tensor | float,
    p2: Tensor | float,
    beta: Tensor | float,
    needed: Sequence[bool] = (True,) * 4,
) -> tuple[Tensor | None, ...]:
    """Compute its gradients, as :func:`acon_mm.ops.cpu_kernel.backward` does."""
    return acon_gradients(g, x, p1, p2, beta, needed)
