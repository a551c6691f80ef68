"""The record beside a checkpoint: its checksum, by which a damaged file is told from a whole one.

``epoch_3.pth.sha256`` is in the format of ``sha256sum``, whose ``--check`` reads it. Of a file
that was written a second time it has two lines: a process may end after the record was written
and before the file was replaced, and either content is then whole.
"""

import hashlib
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

SUFFIX = '.sha256'
_LINE = re.compile(r'([0-9a-f]{64}) [ *].+')
_ZIP_START = b'PK'
_BLOCK_BYTES = 1 << 20


class Digest:
    """An open binary file for writing that computes the SHA-256 of what passes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes and return how many."""
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def hexdigest(self) -> str:
        """Return the SHA-256 of all that was written, in hexadecimal digits."""
        return self._hash.hexdigest()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def record_path(path: Path) -> Path:
    """Return where the record of a file lies."""
    return path.with_name(path.name + SUFFIX)


def recorded_digests(path: Path) -> list[str]:
    """Return the checksums in a file's record, the newest first; none if it has no record."""
    try:
        lines = record_path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [match[1] for line in lines if (match := _LINE.fullmatch(line))]


def record_text(path: Path, digest: str) -> str:
    """Return the record with which a file may be replaced by one of another checksum."""
    digests = [digest]
    if path.is_file() and (old := digest_of(path)) in recorded_digests(path):
        digests.append(old)
    return ''.join(f'{line}  {path.name}\n' for line in dict.fromkeys(digests))


def fault_of(path: Path, *, is_thorough: bool = False) -> str:
    """Say what shows that a file is not as it was written.

    Args:
        path: The file.
        is_thorough: Whether a file without a record is tested as the zip archive that
            ``torch.save`` writes, which has a checksum of each tensor.

    Returns:
        The fault, as the end of a sentence; an empty string if there is none to see.
    """
    try:
        size = path.stat().st_size
        known = recorded_digests(path)
        if not size:
            return 'it is empty'
        if known and digest_of(path) not in known:
            return (
                f'its content is not the one whose checksum is in {record_path(path).name}: it '
                'was cut short or changed'
            )
        return _zip_fault(path) if is_thorough and not known else ''
    except OSError as error:
        return f'it cannot be read ({error.strerror or error})'


def _zip_fault(path: Path) -> str:
    with open(path, 'rb') as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return ''  # an old file of torch, which has no checksums
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile:
        return 'it is cut short'
    return f'its part {damaged!r} is damaged' if damaged else ''
