"""What all figures share: colours, type, and the file they go to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acon_mm.errors import UserError, requires_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')
"""The colours of Okabe and Ito, which eyes that mix up red and green tell apart."""

SUFFIXES = ('.png', '.svg', '.pdf')

# Readable at half of the size.
_STYLE: Any = {
    'font.size': 12,
    'axes.titlesize': 13,
    'axes.grid': True,
    'grid.alpha': 0.25,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'legend.frameon': False,
    'lines.linewidth': 2,
}


@contextmanager
def new_figure(width: float, height: float) -> Iterator['Figure']:
    """Make a figure of a size in inches and draw in the common style in the body of ``with``.

    Raises:
        UserError: If matplotlib is missing.
    """
    with requires_extra('analysis', 'drawing figures'):
        import matplotlib as mpl
        from matplotlib.figure import Figure
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout='constrained')


def save_figure(figure: 'Figure', path: str | os.PathLike, dpi: int = 100) -> Path:
    """Write a figure as PNG, SVG or PDF, by the suffix of the file's name.

    Args:
        figure: The figure.
        path: The file.
        dpi: Pixels per inch of a PNG.

    Returns:
        The path.

    Raises:
        UserError: If the suffix is another one, or the file cannot be written.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f'figure {str(path)!r} must end in one of {", ".join(SUFFIXES)}')
    options: dict[str, Any] = {'metadata': {'Date': None}} if file.suffix == '.svg' else {}
    try:
        figure.savefig(file, dpi=dpi, **options)
    except OSError as error:
        raise UserError(f'figure {str(path)!r} cannot be written: {error}') from error
    return file
