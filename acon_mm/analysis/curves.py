"""The curves of ACON-C and its derivative, Fig. 3 and 4 of the paper."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from acon_mm.errors import UserError, requires_extra
from acon_mm.models.switching import LayerFactors
from acon_mm.ops import acon, acon_grad, acon_grad_bounds

from .figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANKS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Which channels of a layer are drawn, from the most linear one (0) to the least (1)."""

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


def draw_learnt_curves(layers: Mapping[str, LayerFactors]) -> 'Figure':
    """Draw what channels of trained layers compute, their derivatives, and the bounds of Eq. 8.

    Args:
        layers: What :func:`.record_factors` recorded, by the names of the layers.

    Returns:
        A figure with a row of three panels for each layer. The first two have five channels, by
        the size of ``|β (p₁ − p₂)|``, with their bounds as dashes at the ends of the derivative.
        The third has the bounds of all channels, each sorted by itself, and those of Swish as
        dashed lines.

    Raises:
        UserError: If a layer has no switching factors: those of Meta-ACON need a picture.
    """
    x = torch.linspace(-4, 4, 401)
    with new_figure(12, 0.6 + 3.2 * len(layers)) as figure:
        rows = figure.subplots(len(layers), 3, squeeze=False, sharex='col')
        for panels, (name, layer) in zip(rows, layers.items(), strict=True):
            beta = _beta_of_channels(name, layer)
            order = (beta * (layer.p1 - layer.p2)).abs().argsort()
            lower, upper = _bounds(layer)
            for rank, colour in zip(RANKS, COLOURS, strict=True):
                channel = order[round(rank * (len(order) - 1))]
                p1, p2, b = (float(v[channel]) for v in (layer.p1, layer.p2, beta))
                label = f'{p1:.2f}, {p2:.2f}, {b:.2f}'
                _plot(panels[0], x, acon(x.view(1, 1, -1), p1, p2, b), label, colour)
                _plot(panels[1], x, acon_grad(x.view(1, 1, -1), p1, p2, b), '', colour)
                # For beta > 0 the smaller bound is on the left, whichever slope is larger.
                side = 4.15 if b > 0 else -4.15
                ends = [float(lower[channel]), float(upper[channel])]
                panels[1].plot([-side, side], ends, '_', color=colour, markersize=12)
            panels[0].set_title(name.removeprefix('backbone.'))
            panels[0].set_ylabel('ACON-C(x)')
            panels[0].legend(title='p₁, p₂, β', fontsize=9, title_fontsize=10)
            panels[1].set_ylabel('derivative, its bounds as –')
            share = torch.linspace(0, 100, len(upper))
            panels[2].plot(share, upper.sort().values, color=COLOURS[4], label='upper')
            panels[2].plot(share, lower.sort().values, '-.', color=COLOURS[2], label='lower')
            for bound in acon_grad_bounds(1.0, 0.0):
                panels[2].axhline(bound, color='0.2', linestyle='--', linewidth=1.2)
            panels[2].set_ylabel('bounds of the derivative')
            panels[2].legend()
        for axes, label in zip(rows[-1], ('x', 'x', 'channels in %, sorted'), strict=True):
            axes.set_xlabel(label)
        rows[0][1].set_title('derivative')
        rows[0][2].set_title('bounds (Eq. 8); dashed: Swish')
    return figure


def _beta_of_channels(name: str, layer: LayerFactors) -> Tensor:
    """Return the mean switching factor of each channel, of shape (C,)."""
    if not layer.calls:
        raise UserError(
            f'the switching factors of {name!r} depend on the input; give --image, a picture'
        )
    beta = layer.calls[0]
    return beta.flatten(2).mean((0, 2)) if beta.dim() > 2 else beta.mean(0).expand(len(layer.p1))


def _bounds(layer: LayerFactors) -> tuple[Tensor, Tensor]:
    lower, upper = acon_grad_bounds(layer.p1, layer.p2)
    return torch.as_tensor(lower), torch.as_tensor(upper)


def _plot(axes: 'Axes', x: torch.Tensor, y: torch.Tensor, label: str, colour: str) -> None:
    axes.plot(x, y.flatten(), label=label, color=colour, linewidth=1.6)
