"""Build the DigitScenes folder: all or nothing, and the same bytes for the same options."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from acon_mm.datasets.digit_scenes import Scene, compose_scene
from acon_mm.datasets.digit_sources import SPLITS, load_digit_sources
from acon_mm.datasets.digit_writers import write_crops, write_scenes

MANIFEST = 'digit_scenes.json'
# Raised when the bytes change for unchanged options: older folders are then not taken for current.
FORMAT = 1
CROP_HEIGHTS = (0.5, 0.95)


@dataclass(frozen=True)
class BuildOptions:
    """What decides the bytes of a DigitScenes folder.

    Attributes:
        num_train: Number of training scenes.
        num_val: Number of validation scenes.
        num_train_crops: Number of training crops, each showing one digit, for classification.
        num_val_crops: Number of validation crops.
        image_size: Side of a scene in pixels.
        crop_size: Side of a crop in pixels.
        seed: Seed of everything random.

    Raises:
        ValueError: If a value is out of its range.
    """

    num_train: int = 800
    num_val: int = 200
    num_train_crops: int = 6000
    num_val_crops: int = 500
    image_size: int = 160
    crop_size: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {'image_size': 64, 'crop_size': 32, 'seed': 0}
        for name, value in asdict(self).items():
            low = lowest.get(name, 1)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f'{name} must be a whole number from {low} up, got {value!r}.')
        for name in ('image_size', 'crop_size'):
            if getattr(self, name) > 1024:
                raise ValueError(
                    f'{name} must be at most 1024, got {getattr(self, name)}: the photographs '
                    'that the backgrounds are cut from are 640×427 pixels.'
                )


def build_digit_scenes(
    out: str | Path,
    options: BuildOptions | None = None,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> bool:
    """Build DigitScenes in a folder, which appears only when it is complete.

    Args:
        out: The folder to make.
        options: Sizes and seed. Defaults to ``BuildOptions()``.
        overwrite: Replace DigitScenes that were made with other options. Defaults to False.
        log: Receives lines of progress.

    Returns:
        Whether anything was built; False if ``out`` already holds just this.

    Raises:
        FileExistsError: If ``out`` holds something else, or other options and not ``overwrite``.
    """
    options = options or BuildOptions()
    out = Path(out).resolve()
    if _is_built(out, options, overwrite):
        log(f'{out} already holds these scenes; nothing to do.')
        return False

    # Beside it, so that the last step is a rename within one file system.
    partial = out.with_name(f'.{out.name}.partial-{os.getpid()}')
    partial.mkdir(parents=True)
    try:
        for split in SPLITS:
            _write_split(partial, split, options, log)
        (partial / MANIFEST).write_text(json.dumps(_manifest(options), indent=2) + '\n')
        _move_into_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log(f'Wrote {out}')
    return True


def _is_built(out: Path, options: BuildOptions, overwrite: bool) -> bool:
    """Return whether ``out`` already holds the wanted scenes; raise if it may not be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise FileExistsError(
            f'{out} exists but is no DigitScenes folder (it has no readable {MANIFEST}); '
            'choose another place or remove it.'
        ) from error
    wanted = _manifest(options)
    if found == wanted:
        return True
    if not overwrite:
        differing = sorted(k for k in found | wanted if found.get(k) != wanted.get(k))
        differences = ', '.join(f'{k} {found.get(k)}, not {wanted.get(k)}' for k in differing)
        raise FileExistsError(
            f'{out} was made with other options ({differences}); give --overwrite '
            '(overwrite=True) to replace it.'
        )
    return False


def _manifest(options: BuildOptions) -> dict:
    return {'format': FORMAT, **asdict(options)}


def _move_into_place(partial: Path, out: Path) -> None:
    """Rename the finished folder to ``out``; an older one is moved aside and removed last."""
    if not out.exists():
        partial.rename(out)
        return
    aside = out.with_name(f'.{out.name}.old-{os.getpid()}')
    out.rename(aside)
    try:
        partial.rename(out)
    except OSError:
        aside.rename(out)
        raise
    shutil.rmtree(aside)


def _write_split(
    root: Path, split: str, options: BuildOptions, log: Callable[[str], None]
) -> None:
    """Write one split's scenes in COCO and Cityscapes layout, and its crops."""
    sources = load_digit_sources(split)
    stream = SPLITS.index(split)

    def scenes() -> Iterator[Scene]:
        number = getattr(options, f'num_{split}')
        for i in range(number):
            # One generator per scene: the first 100 of 800 scenes are those of a set of 100.
            rng = np.random.default_rng([options.seed, stream, 0, i])
            yield compose_scene(sources, rng, options.image_size)
            _log_progress(log, f'{split} scenes', i + 1, number)

    def crops() -> Iterator[Scene]:
        number = getattr(options, f'num_{split}_crops')
        for i in range(number):
            rng = np.random.default_rng([options.seed, stream, 1, i])
            yield compose_scene(sources, rng, options.crop_size, 1, CROP_HEIGHTS, label=i % 10)
            _log_progress(log, f'{split} crops', i + 1, number)

    write_scenes(root, split, scenes())
    write_crops(root, split, crops())


def _log_progress(log: Callable[[str], None], what: str, done: int, total: int) -> None:
    """Log each quarter of the way."""
    if done * 4 // total != (done - 1) * 4 // total:
        log(f'{what}: {done}/{total}')
