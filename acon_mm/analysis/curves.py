"""The curves of ACON-C and its derivative, Fig. 3 and 4 of the paper."""

from typing import TYPE_CHECKING

import torch

from acon_mm.errors import requires_extra
from acon_mm.ops import acon, acon_grad, acon_grad_bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLOPES = (1.2, -0.8)  # p1 and p2 of Fig. 4
BETAS = (0.0, 0.5, 1.0, 2.0, 20.0)
PAIRS = ((1.0, 0.0), (1.2, -0.8), (0.8, 0.3))
COLOURS = ('#9e9e9e', '#4c9fd6', '#1f5f99', '#e08a2e', '#b5341f')


def draw_curves() -> 'Figure':
    """Draw ACON-C and its first derivative.

    Returns:
        A figure of three panels: ACON-C from the mean of its two lines (switching factor 0) to
        their maximum; its derivative for the same switching factors, with the bounds of Eq. 8 as
        dashed lines; and its derivative for three pairs of slopes.

    Raises:
        UserError: If matplotlib is missing.
    """
    with requires_extra('analysis', 'drawing the curves'):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout='constrained')
    left, middle, right = figure.subplots(1, 3)
    x = torch.linspace(-4, 4, 401)
    for beta, colour in zip(BETAS, COLOURS, strict=True):
        _plot(left, x, acon(x.view(1, 1, -1), *SLOPES, beta), f'β = {beta:g}', colour)
        _plot(middle, x, acon_grad(x.view(1, 1, -1), *SLOPES, beta), f'β = {beta:g}', colour)
    for bound in acon_grad_bounds(*SLOPES):
        middle.axhline(bound, color='0.4', linestyle='--', linewidth=0.8)
    for (p1, p2), colour in zip(PAIRS, COLOURS[1:4], strict=True):
        label = f'p₁ = {p1:g}, p₂ = {p2:g}'
        _plot(right, x, acon_grad(x.view(1, 1, -1), p1, p2, 2.0), label, colour)
    p1, p2 = SLOPES
    left.set_title(f'ACON-C of {p1:g}x and {p2:g}x: β switches')
    middle.set_title('Its derivative: β sets how fast it turns')
    right.set_title('Its derivative: p₁, p₂ set the bounds')
    places = ('upper center', 'lower right', 'upper left')
    for axes, place in zip((left, middle, right), places, strict=True):
        axes.set_xlabel('x')
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8, loc=place)
    return figure


def _plot(axes: 'Axes', x: torch.Tensor, y: torch.Tensor, label: str, colour: str) -> None:
    axes.plot(x, y.flatten(), label=label, color=colour, linewidth=1.6)
