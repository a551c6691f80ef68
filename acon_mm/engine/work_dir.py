"""One training at a time in a work dir."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmengine.dist import is_main_process

from acon_mm.errors import UserError

LOCK = '.acon_mm.lock'

_held: set[IO] = set()


def _leave_to_parent() -> None:
    for file in _held:
        file.close()
    _held.clear()


# A worker lives some seconds longer than a training that is killed, and would keep the lock.
os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def only_run_in(work_dir: str | os.PathLike) -> Iterator[None]:
    """Keep other trainings out of a work dir, which is made if it is missing, during the body.

    The first process holds a lock that ends with it, however it ends. A file system without locks
    is left as it is.

    Args:
        work_dir: The folder.

    Raises:
        UserError: If another training runs in it.
    """
    if not is_main_process():
        yield
        return
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    with open(Path(work_dir, LOCK), 'w', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f'another training runs in {str(work_dir)!r}; wait for its end, or give another '
                'folder with --work-dir'
            ) from error
        except OSError:  # not every file system of a cluster has locks
            pass
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)
