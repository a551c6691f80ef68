"""The versions of torch and OpenMMLab's libraries that acon_mm works with, and their check.

Nothing here imports the libraries: a version is read from the metadata of the installation, so a
wrong one is named in one line instead of failing somewhere inside an import.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata, util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

BUILD_MMCV = Path(__file__).parent / '.mim' / 'tools' / 'env' / 'build_mmcv.sh'
"""Builds a wheel of mmcv with its compiled ops for any Python that has torch."""

FORK = 'onedl-'
"""What the names of the maintained forks start with. They are imported by the same names."""


class Library(NamedTuple):
    """One library of the stack.

    Attributes:
        name: The name of the distribution.
        versions: The versions that acon_mm works with, ``'>=2.1,<3'``.
        fork: The name of its maintained fork, empty if there is none.
        fork_versions: The versions of the fork.
        required: Whether its absence is an error where OpenMMLab is installed. mmdet and
            mmsegmentation are needed only by the configs that name them; mmpretrain holds the
            networks that the backbones build on.
    """

    name: str
    versions: str
    fork: str = ''
    fork_versions: str = ''
    required: bool = False


STACK = (
    Library('torch', '>=2.1', required=True),
    # mmdet 3.3.0 and mmsegmentation 1.2.2 assert these bounds when they are imported.
    Library('mmcv', '>=2.0.0rc4,<2.2.0', f'{FORK}mmcv', '>=2.3,<3', required=True),
    Library('mmengine', '>=0.10.0,<1', f'{FORK}mmengine', '>=0.10.8,<1', required=True),
    Library('mmdet', '>=3.3.0,<4', f'{FORK}mmdetection', '>=3.4,<4'),
    Library('mmpretrain', '>=1.2.0,<2', f'{FORK}mmpretrain', '>=1.3,<2', required=True),
    Library('mmsegmentation', '>=1.2.2,<2', f'{FORK}mmsegmentation', '>=1.3,<2'),
)


def has_openmmlab() -> bool:
    """Return whether mmengine is there; without it the operator and the activations work."""
    return util.find_spec('mmengine') is not None


@contextmanager
def needs_openmmlab(name: str) -> Iterator[None]:
    """Say in one line what is missing where an import in the body fails without OpenMMLab.

    Args:
        name: The module that is imported.

    Raises:
        ImportError: If OpenMMLab is not installed and the body needs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if has_openmmlab():
            raise
        raise ImportError(
            f'{name} needs {error.name}, which is not installed, as nothing of OpenMMLab is; '
            'acon_mm.ops and acon_mm.models.activations work without it, docs/installation.md '
            'says how to install it'
        ) from None


def check_stack() -> None:
    """Check that the installed libraries are ones that acon_mm works with.

    Where nothing of OpenMMLab is installed, torch alone is checked.

    Raises:
        ImportError: If a library is missing or has a version outside its range, or mmcv is
            installed without its compiled ops. One line: what is wrong, and the command that
            repairs it.
    """
    if not has_openmmlab():
        _check_version(STACK[0])
        return
    for library in STACK:
        _check_version(library)
    if not _mmcv_has_ops():
        raise ImportError(
            'acon_mm needs mmcv with its compiled ops, and the installed mmcv has none (no '
            f'mmcv._ext): run `{_repair(STACK[1])}`.'
        )


def release(version: str) -> tuple[int, ...]:
    """Return the four numbers of a release; a pre-release or a local build counts as its release.

    Args:
        version: Such as ``'2.4.0+cu121'``, which gives ``(2, 4, 0, 0)``.
    """
    found = re.match(r'\d+(?:\.\d+)*', version)
    numbers = [int(number) for number in found[0].split('.')] if found else []
    return tuple((*numbers, 0, 0, 0, 0)[:4])


def _check_version(library: Library) -> None:
    found = {
        name: _installed(name)
        for name in (library.name, library.fork)
        if name and _installed(name) is not None
    }
    if not found and library.required:
        name, versions = _wanted(library)
        raise ImportError(
            f'acon_mm needs {name}{versions}, which is not installed: run `{_repair(library)}`.'
        )
    for name, installed in found.items():
        versions = library.versions if name == library.name else library.fork_versions
        if installed and not _contains(versions, installed):
            raise ImportError(
                f'acon_mm needs {name}{versions}, but {installed} is installed: '
                f'run `{_repair(library)}`.'
            )


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _contains(versions: str, version: str) -> bool:
    bounds = [
        (clause[:2] == '>=', release(clause.lstrip('<>='))) for clause in versions.split(',')
    ]
    return all((release(version) >= bound) == is_lower for is_lower, bound in bounds)


def _wanted(library: Library) -> tuple[str, str]:
    """Return name and versions of a library, of the fork where others are forks."""
    if library.fork and any(other.fork and _installed(other.fork) for other in STACK):
        return library.fork, library.fork_versions
    return library.name, library.versions


def _mmcv_has_ops() -> bool:
    """Look for ``mmcv._ext`` without importing mmcv, which would load torch and OpenCV."""
    # An editable install has a finder of its own, which PathFinder does not ask.
    mmcv = util.find_spec('mmcv')
    return bool(mmcv and PathFinder.find_spec('mmcv._ext', mmcv.submodule_search_locations))


def _repair(library: Library) -> str:
    """Return the shell command that brings a library into its range."""
    python = shlex.quote(sys.executable)
    pip = f'{python} -m pip install'
    name, versions = _wanted(library)
    if name == 'torch':
        return f'{pip} --upgrade torch torchvision'
    if library.name == 'mmcv':
        package = '' if name == 'mmcv' else f'MMCV_PACKAGE={name} '
        wheel = f'"$({package}bash {shlex.quote(str(BUILD_MMCV))} {python})"'
        return f'{pip} --force-reinstall --no-deps {wheel}'
    return f"{pip} '{name}{versions}'"
