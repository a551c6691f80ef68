"""Writing checkpoints whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch

from acon_mm.errors import UserError


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
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with open(temporary, 'wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # On a full disk torch's own complaint about the zip archive hides the reason.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise UserError(f'{str(path)!r} cannot be written: {reason}') from error
    finally:
        temporary.unlink(missing_ok=True)
