"""ACON and its gradients in float64, written from the paper and shared by the tests of kernels."""

from typing import NamedTuple

import torch
from torch import Tensor


class Expected(NamedTuple):
    """Values in float64, and for each sum the sum of the magnitudes of what it is made of."""

    y: Tensor
    dx: Tensor
    sums: dict[str, Tensor]
    magnitudes: dict[str, Tensor]


def closed_form(g: Tensor, x: Tensor, p1: Tensor, p2: Tensor, beta: Tensor) -> Expected:
    """Eq. 4 and its derivatives, for slopes of shape (C,) and beta of shape (C,) or (N, C)."""
    g, x, p1, p2, beta = (tensor.double() for tensor in (g, x, p1, p2, beta))
    ones = (1,) * (x.dim() - 2)
    a1, a2 = (p.view(1, -1, *ones) for p in (p1, p2))
    b = beta.view(*((1, -1) if beta.dim() == 1 else beta.shape), *ones)
    d = a1 - a2
    z = b * d * x
    s, t = torch.sigmoid(z), torch.sigmoid(z) * torch.sigmoid(-z)
    zt = torch.where(t == 0, 0, z) * t
    h = s + zt
    finite = torch.where(t == 0, 0, x)
    rest = torch.sigmoid(-z)
    terms = {'p1': g * x * h, 'p2': g * x * (rest - zt), 'beta': g * (d * finite) ** 2 * t}
    # The two parts of a slope's factor may cancel: near z = 1.28 and -1.28 nothing is left of it.
    parts = terms | {'p1': g * x * (s + zt.abs()), 'p2': g * x * (rest + zt.abs())}

    def sums(terms) -> dict[str, Tensor]:
        return {
            name: term.sum_to_size((b if name == 'beta' else a1).shape).view(
                (beta if name == 'beta' else p1).shape
            )
            for name, term in terms.items()
        }

    magnitudes = sums({name: part.abs() for name, part in parts.items()})
    return Expected(x * (d * s + a2), g * (a2 + d * h), sums(terms), magnitudes)
