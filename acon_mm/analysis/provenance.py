"""Say where the figures of a report come from: the command, the machine and the versions."""

import os
import platform
import re
import shlex
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from acon_mm import ops
from acon_mm._stack import STACK


def describe_run(device: str, command: Sequence[str]) -> str:
    """Say on what machine, with what versions and by what command something was measured.

    Args:
        device: ``'cpu'`` or ``'cuda'``.
        command: The words of the command, of which the first is the path of the script.

    Returns:
        A Markdown list.
    """
    # The part of the path that is the same in every checkout.
    script = Path(*Path(command[0]).parts[-3:]).as_posix()
    versions = [f'{library.name} {_version(library.name)}' for library in STACK]
    machine = (
        f'{_processor()} with {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, '
        f'of which torch uses {torch.get_num_threads()}'
    )
    if torch.device(device).type == 'cuda':
        machine = f'{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, beside {machine}'
    lines = [
        f'Command: `{shlex.join(["python", script, *command[1:]])}`',
        f'Machine: {machine}',
        f'Versions: Python {platform.python_version()}, {", ".join(versions)}',
        f'Operator: {"; ".join(ops.backend_report().splitlines())}',
    ]
    return '\n'.join(f'- {line}' for line in lines)


def _processor() -> str:
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        return platform.machine()
    found = re.search(r'^model name\s*:\s*(.+)$', text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return 'not installed'
