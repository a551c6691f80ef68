"""Compose one scene: digits in varied sizes, angles and colours on a piece of a photograph."""

from dataclasses import dataclass

import cv2
import numpy as np

from acon_mm.datasets.digit_sources import DigitSources

BACKGROUND = 10
"""Class of the pixels without ink in a label map; the digits are 0 … 9."""

PHOTO_CROP = (90, 160)
MAX_ANGLE = 15.0
PHOTO_FADING = 0.5  # half the contrast: minutes of training on two cores must be enough
MIN_CONTRAST = 110.0
MAX_BOX_OVERLAP = 0.15
PLACEMENT_TRIES = 30
LUMA = np.array([0.114, 0.587, 0.299], dtype=np.float32)  # of B, G, R


@dataclass(frozen=True)
class Digit:
    """One digit of a scene.

    Attributes:
        label: The digit that it shows, 0 … 9.
        sample: Its row in scikit-learn's ``load_digits``.
        box: ``(x, y, width, height)`` in pixels, the tight bounds of its ink.
    """

    label: int
    sample: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """One image with its annotations.

    Attributes:
        image: Uint8 BGR array of shape (S, S, 3).
        label_map: Uint8 array of shape (S, S): the digit where there is ink, else ``BACKGROUND``.
        digits: The digits, whose inks touch nowhere.
    """

    image: np.ndarray
    label_map: np.ndarray
    digits: tuple[Digit, ...]


def compose_scene(
    sources: DigitSources,
    rng: np.random.Generator,
    image_size: int = 160,
    max_digits: int = 4,
    heights: tuple[float, float] = (0.2, 0.5),
    label: int | None = None,
) -> Scene:
    """Compose one square scene of one to ``max_digits`` digits.

    Args:
        sources: Glyphs and photos to draw from.
        rng: The only source of chance: the same state gives the same pixels.
        image_size: Side S of the scene in pixels.
        max_digits: Largest number of digits; a digit that finds no free place is left out, the
            first one always finds one.
        heights: Range of a digit's height as a share of ``image_size``, drawn log-uniformly.
        label: Draw only glyphs of this digit. Defaults to None (any).
    """
    candidates = np.arange(len(sources.labels))
    if label is not None:
        candidates = candidates[sources.labels == label]
    image = _photo_crop(sources.photos, rng, image_size).astype(np.float32)
    label_map = np.full((image_size, image_size), BACKGROUND, dtype=np.uint8)
    covered = np.zeros((image_size, image_size), dtype=bool)
    digits: list[Digit] = []
    for _ in range(rng.integers(1, max_digits + 1)):
        index = rng.choice(candidates)
        height = image_size * np.exp(rng.uniform(*np.log(heights)))
        ink = _render_ink(sources.glyphs[index], height, rng, limit=image_size)
        place = _find_place(ink, covered, [digit.box for digit in digits], rng)
        if place is None:
            continue
        x, y = place
        window = np.s_[y : y + ink.shape[0], x : x + ink.shape[1]]
        solid = ink >= 0.5
        image[window] = _blend(image[window], ink, _ink_colour(image[window][solid], rng))
        label_map[window][solid] = sources.labels[index]
        covered[window] |= ink > 0
        digits.append(
            Digit(int(sources.labels[index]), int(sources.samples[index]), _ink_box(ink, x, y))
        )
    return Scene(np.clip(np.rint(image), 0, 255).astype(np.uint8), label_map, tuple(digits))


def _photo_crop(photos: tuple[np.ndarray, ...], rng: np.random.Generator, size: int) -> np.ndarray:
    """Cut a random square out of a random photo, flip, resize and fade it, vary its brightness."""
    photo = photos[rng.integers(len(photos))]
    side = int(rng.integers(PHOTO_CROP[0], min(PHOTO_CROP[1], *photo.shape[:2]) + 1))
    y = rng.integers(photo.shape[0] - side + 1)
    x = rng.integers(photo.shape[1] - side + 1)
    crop = photo[y : y + side, x : x + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    crop = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=cv2.INTER_LINEAR)
    faded = PHOTO_FADING * crop + (1 - PHOTO_FADING) * crop.mean()
    return np.clip(faded * rng.uniform(0.7, 1.2), 0, 255)


def _render_ink(
    glyph: np.ndarray, height: float, rng: np.random.Generator, limit: int
) -> np.ndarray:
    """Enlarge a glyph smoothly, turn it and harden its edge.

    Returns:
        Float32 array in [0, 1], cropped to the pixels above 0; at most ``limit`` high and wide.
    """
    # An 8×8 glyph fills its 8 rows; two empty ones on each side leave room for the turn.
    padded = np.pad(glyph, 2)
    side = round(height * len(padded) / len(glyph))
    large = cv2.resize(padded, (side, side), interpolation=cv2.INTER_CUBIC)
    centre = ((side - 1) / 2, (side - 1) / 2)
    turn = cv2.getRotationMatrix2D(centre, rng.uniform(-MAX_ANGLE, MAX_ANGLE), 1.0)
    large = cv2.warpAffine(large, turn, (side, side), flags=cv2.INTER_LINEAR)
    threshold = rng.uniform(0.35, 0.5)  # thin and bold pens
    ink = np.clip((large - threshold) / 0.25 + 0.5, 0, 1).astype(np.float32)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return ink[:limit, :limit]


def _find_place(
    ink: np.ndarray,
    covered: np.ndarray,
    boxes: list[tuple[int, int, int, int]],
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Return a top left corner where the ink meets no other ink, or None after many tries."""
    height, width = ink.shape
    for _ in range(PLACEMENT_TRIES):
        x = int(rng.integers(covered.shape[1] - width + 1))
        y = int(rng.integers(covered.shape[0] - height + 1))
        if (covered[y : y + height, x : x + width] & (ink > 0)).any():
            continue
        box = _ink_box(ink, x, y)
        if all(_overlap(box, other) <= MAX_BOX_OVERLAP for other in boxes):
            return x, y
    return None


def _ink_box(ink: np.ndarray, x: int, y: int) -> tuple[int, int, int, int]:
    """Return the tight ``(x, y, width, height)`` of the solid ink whose array starts at (x, y)."""
    left, top, width, height = cv2.boundingRect((ink >= 0.5).astype(np.uint8))
    return x + left, y + top, width, height


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Return the intersection of two boxes over the area of the smaller one."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])


def _ink_colour(under: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a BGR colour brighter or darker than the pixels, of shape (K, 3), under the ink."""
    paper = float((under @ LUMA).mean())
    for _ in range(PLACEMENT_TRIES):
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        if abs(float(colour @ LUMA) - paper) >= MIN_CONTRAST:
            return colour
    return np.full(3, 255 if paper < 128 else 0, dtype=np.float32)


def _blend(pixels: np.ndarray, ink: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Lay a colour over pixels of shape (H, W, 3), ``ink`` of shape (H, W) being its opacity."""
    opacity = ink[..., None]
    return pixels * (1 - opacity) + colour * opacity
