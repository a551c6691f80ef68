"""Figures of switching factors, after Fig. 5 of the paper."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .factors import QUANTILES, Recording
from .figures import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PICTURES = 7  # as in Fig. 5
BINS = 25


def draw_distribution(recordings: Sequence[Recording], layers: Sequence[str]) -> 'Figure':
    """Draw the distribution of β in one layer for up to seven pictures (Fig. 5).

    Args:
        recordings: One or two models that saw the same pictures.
        layers: The layer of each model.

    Returns:
        A figure with a column for each picture: the picture, and below it a histogram of each
        model's factors. A model whose factors do not depend on the input has the same histogram
        in each column.
    """
    pictures = list(recordings[0].pictures)[:MAX_PICTURES]
    pairs = list(zip(recordings, layers, strict=True))
    values = [[recording.beta(layer, p) for p in pictures] for recording, layer in pairs]
    every = np.concatenate([v for of_model in values for v in of_model])
    low, high = every.min(), every.max()
    edges = np.linspace(low, high, BINS + 1) if high > low else np.linspace(low - 1, low + 1, 3)
    with new_figure(1.1 + 1.6 * len(pictures), 4.0) as figure:
        top, bottom = figure.subplots(
            2, len(pictures), squeeze=False, sharey='row', height_ratios=(1, 1.7)
        )
        for column, name in enumerate(pictures):
            _show(top[column], recordings[0].pictures[name])
            axes = bottom[column]
            for index, (recording, _) in enumerate(pairs):
                found = values[index][column]
                axes.hist(
                    found,
                    edges,
                    weights=np.full(found.size, 100 / found.size),
                    histtype='stepfilled' if index == 0 else 'step',
                    color=COLOURS[1 - index],
                    alpha=0.75 if index == 0 else 1,
                    linewidth=2,
                    label=recording.title,
                )
            axes.set_xlabel('β')
        bottom[0].set_ylabel('channels in %')
        handles, labels = bottom[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc='outside upper center', ncols=len(pairs))
        names = dict.fromkeys(layers)
        figure.supxlabel(f'layer {", ".join(names)}', fontsize=12)
    return figure


def draw_overview(recordings: Sequence[Recording]) -> 'Figure':
    """Draw the range of β and of ``|β (p₁ − p₂)|`` in all layers, over all pictures.

    Args:
        recordings: One or several models.

    Returns:
        A figure with a row for each layer, the first at the top. Dots are medians, thick bars hold
        half of the values and thin bars nine tenths.
    """
    names = list(dict.fromkeys(name for r in recordings for name in r.names()))
    with new_figure(11, 1.6 + 0.32 * len(names)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for index, recording in enumerate(recordings):
            shift = 0.3 * (index - (len(recordings) - 1) / 2)
            colour = COLOURS[(1 - index) % len(COLOURS)]
            for name in recording.names():
                y = names.index(name) + shift
                for axes, read in ((left, recording.beta), (right, recording.steepness)):
                    found = np.concatenate([read(name, p) for p in recording.pictures])
                    _bars(axes, y, found, colour)
            left.plot([], [], 'o', color=colour, label=recording.title)
        left.set_yticks(range(len(names)), names, fontsize=10)
        left.set_ylim(len(names) - 0.5, -0.5)
        left.set_xlabel('β')
        right.set_xlabel('|β (p₁ − p₂)|')
        for axes in (left, right):
            axes.axvline(0, color='0.4', linestyle='--', linewidth=1)
            axes.set_title('← linear      non-linear →', fontsize=11)
        figure.legend(loc='outside upper center', ncols=len(recordings))
    return figure


def draw_maps(recording: Recording, picture: str) -> 'Figure':
    """Draw β at each place, the mean over the channels, of each layer beside the picture.

    Args:
        recording: What a model with pixel-wise factors computed.
        picture: The name of one of its pictures.

    Returns:
        A figure of the picture and a map for each layer, all in one colour scale.
    """
    maps = {name: recording.map_of(name, picture) for name in recording.names()}
    found = {name: beta for name, beta in maps.items() if beta is not None}
    low, high = min(m.min() for m in found.values()), max(m.max() for m in found.values())
    columns = min(6, len(found) + 1)
    rows = -(-(len(found) + 1) // columns)
    with new_figure(2.1 * columns, 0.6 + 2.3 * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        _show(panels[0], recording.pictures[picture])
        panels[0].set_title(picture, fontsize=9)
        for axes, (name, beta) in zip(panels[1:], found.items(), strict=False):
            drawn = axes.imshow(beta, cmap='cividis', vmin=low, vmax=high)
            axes.set_title(name.removeprefix('backbone.'), fontsize=11)
        for axes in panels:
            axes.set_axis_off()
        figure.colorbar(drawn, ax=list(panels), label='mean β over the channels', shrink=0.8)
    return figure


def _show(axes: 'Axes', picture: np.ndarray) -> None:
    axes.imshow(picture[..., ::-1])
    axes.set_axis_off()


def _bars(axes: 'Axes', y: float, values: np.ndarray, colour: str) -> None:
    """Draw the quantiles of some values as a row."""
    q5, q25, q50, q75, q95 = np.percentile(values, QUANTILES)
    axes.plot([q5, q95], [y, y], color=colour, linewidth=1.2, solid_capstyle='butt')
    axes.plot([q25, q75], [y, y], color=colour, linewidth=5, alpha=0.6, solid_capstyle='butt')
    axes.plot([q50], [y], 'o', color=colour, markersize=5)
