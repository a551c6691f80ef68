"""Finding the checkpoint that a run goes on from."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import print_log

from .record import fault_of

POINTER = 'last_checkpoint'
"""The file of a work dir that names its newest checkpoint, relative to the work dir."""


def pointed_at(work_dir: str | os.PathLike) -> Path | None:
    """Return the checkpoint that ``last_checkpoint`` of a work dir names, None without the file.

    mmengine writes an absolute path. Of a work dir that was copied or moved it is the file of
    that name in the work dir itself, if there is one.
    """
    try:
        named = Path(work_dir, POINTER).read_text(encoding='utf-8').strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not named:
        return None
    here = Path(work_dir, Path(named).name)
    return here if Path(named).is_absolute() and here.is_file() else Path(work_dir, named)


def find_newest_whole(work_dir: str | os.PathLike) -> Path | None:
    """Return the newest checkpoint of a work dir that is whole.

    That is the one which ``last_checkpoint`` names, or else the one with the highest numbers in
    its name. A warning names each that was skipped and why. ``best_*`` are left out: they hold no
    optimizer.

    Args:
        work_dir: The folder; it need not exist.

    Returns:
        The path, None if there is no whole checkpoint.
    """
    for path in _candidates(Path(work_dir)):
        fault = fault_of(path, is_thorough=True) if path.is_file() else 'it does not exist'
        if not fault:
            return path
        print_log(
            f'checkpoint {str(path)!r} is skipped: {fault}',
            logger='current',
            level=logging.WARNING,
        )
    return None


def _candidates(work_dir: Path) -> Iterator[Path]:
    first = pointed_at(work_dir)
    if first is not None:
        yield first
    folder = work_dir if first is None else first.parent
    found = [path for path in folder.glob('*_[0-9]*.pth') if not path.name.startswith('best_')]
    for path in sorted(found, key=_numbers, reverse=True):
        if path != first:
            yield path


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r'\d+', path.stem)]
