"""The small files that the steps of a transfer chain leave."""

import json
import os
from collections.abc import Mapping
from pathlib import Path


def read_json(path: Path) -> dict | None:
    """Return the object in a file, None if there is no such file."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None


def write_json(content: Mapping, path: Path) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with open(temporary, 'w', encoding='utf-8') as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False) + '\n')
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
