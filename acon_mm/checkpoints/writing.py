"""Writing checkpoints whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.fileio import LocalBackend, register_backend

from acon_mm.errors import UserError

from .record import Digest, digest_of, record_path, record_text

TEMPORARY_GLOB = '.*.acon_mm.tmp'
"""What a process that was killed while it wrote may leave beside a checkpoint."""


@register_backend('acon_mm', force=True)
class WholeFileBackend(LocalBackend):
    """mmengine's backend for this machine's files, with whole writes and a record of each file."""

    def put(self, obj: bytes | memoryview, filepath: str | os.PathLike) -> None:
        """Write a file as :func:`write_whole` does, in a folder that is made if it is missing."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(filepath), lambda file: file.write(obj), is_recorded=True)

    def remove(self, filepath: str | os.PathLike) -> None:
        """Remove a file, then its record."""
        super().remove(filepath)
        record_path(Path(filepath)).unlink(missing_ok=True)


def save_whole(content: Any, path: str | os.PathLike) -> None:
    """Write a checkpoint, or leave what lies at ``path`` as it was.

    The bytes go to a file beside it, which takes its place once they have reached the disk.

    Args:
        content: What :func:`torch.save` can write.
        path: Where to write; a file that is there is replaced.

    Raises:
        UserError: If the folder does not exist, ``path`` is one, or the file cannot be written.
    """
    path = Path(path).expanduser()
    if not path.parent.is_dir():
        raise UserError(
            f'{str(path)!r} cannot be written: there is no folder {str(path.parent)!r}'
        )
    if path.is_dir():
        raise UserError(f'{str(path)!r} is a folder; give the path of the file to write')
    # torch asks for no more of a file than `write` and `flush`.
    write_whole(path, lambda file: torch.save(content, file))  # type: ignore[arg-type]


def write_whole(path: Path, write: Callable[[Digest], Any], *, is_recorded: bool = False) -> None:
    """Write a file beside ``path``, read it back, and let it take the place of ``path``.

    Whenever the process ends, ``path`` holds what it held before or all of the new content.

    Args:
        path: Where to write, in a folder that exists.
        write: Writes the content to an open file.
        is_recorded: Whether the checksum goes to the file's record (:mod:`.record`), before the
            file takes its place; until the next write the record knows the old content as well.

    Raises:
        UserError: If the file cannot be written, or the disk gives back something else.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.acon_mm.tmp')
    try:
        with open(temporary, 'wb') as file:
            digest = Digest(file)
            write(digest)
            file.flush()
            os.fsync(file.fileno())
        if digest_of(temporary) != digest.hexdigest():
            raise OSError('what was read back differs from what was written')
        if is_recorded:
            text = record_text(path, digest.hexdigest())
            write_whole(record_path(path), lambda file: file.write(text.encode()))
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        # On a full disk torch's own complaint about the zip archive hides the reason.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise UserError(f'{str(path)!r} cannot be written: {reason}') from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Let the new name reach the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
