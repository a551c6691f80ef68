"""Training curves of several runs in one figure, after appendix Fig. 1 of the paper."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from acon_mm.errors import UserError

from .figures import COLOURS, new_figure
from .runs import scalar_records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = ('-', '--', '-.', ':')


def read_curve(work_dir: str | os.PathLike, key: str) -> tuple[dict[int, float], str]:
    """Read one value from all that a training logged, its resumed parts included.

    Args:
        work_dir: The work dir of the training.
        key: The key in the log, such as ``'loss'`` or ``'coco/bbox_mAP'``.

    Returns:
        The value by iteration or epoch, in their order, and which of the two it is: mmengine logs
        the results of validations by epoch where a training counts epochs.

    Raises:
        UserError: If no log is there or the key is not in it.
    """
    records = [r for p in sorted(Path(work_dir).glob('*/')) for r in scalar_records(p)]
    if not records:
        raise UserError(
            f'work dir {str(work_dir)!r} has no log of a training, TIME/vis_data/scalars.json; '
            'give the --work-dir of the run, whose visualizer needs the LocalVisBackend'
        )
    found = {r.get('iter', r['step']): float(r[key]) for r in records if key in r}
    if not found:
        known = dict.fromkeys(k for r in records for k in r)
        raise UserError(f'key {key!r} is not in the log of {str(work_dir)!r}: {", ".join(known)}')
    of_validation = not any(key in r and 'iter' in r for r in records)
    by_epoch = any('epoch' in r for r in records)
    unit = 'epoch' if of_validation and by_epoch else 'iteration'
    return dict(sorted(found.items())), unit


def draw_curves_of_runs(
    groups: Mapping[str, Sequence[str | os.PathLike]], keys: Sequence[str], smooth: int = 1
) -> 'Figure':
    """Draw what runs logged, a panel for each key and a line for each group.

    Args:
        groups: The work dirs of the runs of each group, such as those of several seeds.
        keys: Keys of the log.
        smooth: How many neighbouring values are averaged, for the noise of training losses.

    Returns:
        A figure. A line is the mean over the runs of a group, at the points that all of them have;
        the band around it reaches from the smallest to the largest value.

    Raises:
        UserError: If a log or a key is missing, or the runs of a group have no common point.
    """
    with new_figure(0.6 + 5 * len(keys), 3.8) as figure:
        panels = figure.subplots(1, len(keys), squeeze=False)[0]
        for axes, key in zip(panels, keys, strict=True):
            for index, (title, folders) in enumerate(groups.items()):
                curves, units = zip(*(read_curve(f, key) for f in folders), strict=True)
                steps = sorted(set.intersection(*(set(curve) for curve in curves)))
                if not steps:
                    raise UserError(f'the runs of {title!r} have no step with {key!r} in common')
                values = np.array([[curve[step] for step in steps] for curve in curves])
                values = np.array([_smoothed(row, smooth) for row in values])
                colour = COLOURS[index % len(COLOURS)]
                label = f'{title} ({len(folders)} runs)' if len(folders) > 1 else title
                style = LINES[index % len(LINES)]
                marker = 'o' if len(steps) < 15 else ''
                axes.plot(steps, values.mean(0), style, marker=marker, color=colour, label=label)
                if len(folders) > 1:
                    low, high = values.min(0), values.max(0)
                    axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
            axes.set_xlabel(units[0])
            axes.set_ylabel(key)
            axes.xaxis.get_major_locator().set_params(integer=True)
        panels[0].legend()
    return figure


def _smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Average each value with its neighbours, fewer of them at the ends."""
    if width <= 1:
        return values
    ones = np.ones(min(width, len(values)))
    sums = np.convolve(values, ones, 'same')
    return sums / np.convolve(np.ones_like(values), ones, 'same')
