"""What DigitScenes is made of: the digits and the photographs that scikit-learn ships.

1797 handwritten digits of 8×8 pixels (``load_digits``, the test half of UCI's *Optical
Recognition of Handwritten Digits*) and two photographs of 640×427 pixels
(``load_sample_images``). Both lie inside the scikit-learn package: nothing is downloaded.
"""

from dataclasses import dataclass

import numpy as np

from acon_mm.errors import requires_extra

SPLITS = ('train', 'val')
VAL_FRACTION = 0.25
"""Share of every class's samples, and of every photograph's width, that only validation sees."""


@dataclass(frozen=True)
class DigitSources:
    """The raw material of one split.

    Attributes:
        glyphs: Float32 array of shape (N, 8, 8), 0 for paper and 1 for ink.
        labels: Integer array of shape (N,), the digit that each glyph shows.
        samples: Integer array of shape (N,), each glyph's row in ``load_digits``.
        photos: Uint8 BGR arrays of shape (H, W, 3).
    """

    glyphs: np.ndarray
    labels: np.ndarray
    samples: np.ndarray
    photos: tuple[np.ndarray, ...]


def split_samples(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Split sample indices by class into a training and a validation part.

    The dataset lists its writers one after the other, so the *last* quarter of every class
    goes to validation: every fourth sample instead would put the same hands on both sides.

    Args:
        labels: Integer array of shape (N,).

    Returns:
        Sorted integer arrays under ``'train'`` and ``'val'``; together they hold 0 … N - 1 once.
    """
    parts: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        cut = len(members) - int(len(members) * VAL_FRACTION)
        parts['train'].append(members[:cut])
        parts['val'].append(members[cut:])
    return {split: np.sort(np.concatenate(indices)) for split, indices in parts.items()}


def load_digit_sources(split: str) -> DigitSources:
    """Load the glyphs and the photo regions of one split; the two splits share neither.

    Args:
        split: ``'train'`` or ``'val'``.

    Raises:
        ValueError: If ``split`` is neither.
        UserError: If scikit-learn or Pillow, which decodes the photographs, is missing.
    """
    if split not in SPLITS:
        raise ValueError(f'split must be one of {SPLITS}, got {split!r}.')
    with requires_extra('digits', 'making DigitScenes from the data in scikit-learn'):
        # Imported here: a training run imports this package and needs neither.
        from sklearn.datasets import load_digits, load_sample_images

        digits, photos = load_digits(), load_sample_images().images

    samples = split_samples(digits.target)[split]
    return DigitSources(
        glyphs=(digits.images[samples] / 16).astype(np.float32),
        labels=digits.target[samples],
        samples=samples,
        photos=tuple(_photo_region(photo, split) for photo in photos),
    )


def _photo_region(photo: np.ndarray, split: str) -> np.ndarray:
    """Return the columns of an RGB photo that belong to the split, as BGR."""
    width = photo.shape[1]
    cut = width - int(width * VAL_FRACTION)
    region = photo[:, :cut] if split == 'train' else photo[:, cut:]
    return np.ascontiguousarray(region[..., ::-1])
