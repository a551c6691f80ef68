"""Files that have to be images, and lists of them."""

import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from .fault import Fault

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
_ORIENTATION = 0x0112  # the tag of EXIF; from 5 on, width and height change places
_TURNED = 5


def image_faults(file: Path, size: tuple | None = None) -> Iterator[Fault]:
    """Decode an image and yield what is wrong with it.

    Args:
        file: The image.
        size: Width and height that it has to have, None for any.
    """
    try:
        if not file.is_file():
            yield missing_image(file)
            return
        if not file.stat().st_size:
            yield Fault('images that are empty files', str(file))
            return
        with Image.open(file) as image:
            is_turned = image.getexif().get(_ORIENTATION, 1) >= _TURNED
            found = image.size[::-1] if is_turned else image.size
            image.load()
    except UnidentifiedImageError:
        yield Fault('files that are no images', str(file))
        return
    except PermissionError:
        yield Fault('images that may not be read', str(file))
        return
    except Image.DecompressionBombError:
        yield Fault('images too large to be decoded', str(file))
        return
    except (OSError, SyntaxError, ValueError):
        yield Fault('images that are damaged or cut short', str(file))
        return
    if size is not None and found != size:
        turned = ', turned by its EXIF orientation' * is_turned
        yield Fault(
            'images whose size differs from the annotation',
            f'{file} ({found[0]}×{found[1]} instead of {size[0]}×{size[1]}{turned})',
        )


def missing_image(file: Path) -> Fault:
    """Return the fault of a file that is not there: a link, a folder, or another suffix."""
    if file.is_dir():
        return Fault('images that are folders', str(file))
    if file.is_symlink():
        return Fault('images that are links to nothing', f'{file} → {os.readlink(file)}')
    others = (file.with_suffix(suffix) for s in _SUFFIXES for suffix in (s, s.upper()))
    other = next((path.name for path in others if path.is_file()), None)
    hint = f' (there is {other})' if other else ''
    return Fault('images that are missing', f'{file}{hint}')


def listed_lines(path: Path) -> list[str] | Fault:
    """Return the lines of a list of images, or what is wrong with the file."""
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError):  # a folder, or no text
        return Fault('lists of images that cannot be read', str(path))
    return lines or Fault('lists of images that are empty', str(path))
