"""The versions of torch and OpenMMLab's libraries that acon_mm works with, and their check.

Nothing here imports the libraries: a version is read from the metadata of the installation, so a
wrong one is named in one line instead of failing somewhere inside an import.
"""

import shlex
import sys
from importlib import metadata, util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import Version

BUILD_MMCV = Path(__file__).parent / '.mim' / 'tools' / 'env' / 'build_mmcv.sh'
"""Builds a wheel of mmcv with its compiled ops for any Python that has torch."""


class Library(NamedTuple):
    """One library of the stack.

    Attributes:
        name: The name of the distribution.
        versions: The versions that acon_mm works with.
        required: Whether its absence is an error. mmdet and mmsegmentation are needed only by the
            configs that name them; mmpretrain holds the networks that the backbones build on.
    """

    name: str
    versions: str
    required: bool = False


STACK = (
    # 2.6 is the first whose safe globals have names, by which acon_mm reads checkpoints.
    Library('torch', '>=2.6', required=True),
    # mmdet 3.3.0 and mmsegmentation 1.2.2 assert these bounds when they are imported.
    Library('mmcv', '>=2.0.0rc4,<2.2.0', required=True),
    Library('mmengine', '>=0.10.0,<1', required=True),
    Library('mmdet', '>=3.3.0,<4'),
    Library('mmpretrain', '>=1.2.0,<2', required=True),
    Library('mmsegmentation', '>=1.2.2,<2'),
)


def check_stack() -> None:
    """Check that the installed libraries are ones that acon_mm works with.

    Raises:
        ImportError: If a library is missing or has a version outside its range, or mmcv is
            installed without its compiled ops. One line: what is wrong, and the command that
            repairs it.
    """
    for library in STACK:
        _check_version(library)
    if not _mmcv_has_ops():
        raise ImportError(
            'acon_mm needs mmcv with its compiled ops, and the installed mmcv has none (no '
            f'mmcv._ext): run `{_repair("mmcv")}`.'
        )


def _check_version(library: Library) -> None:
    try:
        installed = metadata.version(library.name)
    except metadata.PackageNotFoundError:
        if library.required:
            raise ImportError(
                f'acon_mm needs {library.name}{library.versions}, which is not installed: '
                f'run `{_repair(library.name)}`.'
            ) from None
        return
    # A build like 2.4.0+cu121 or a nightly counts as its release.
    if not SpecifierSet(library.versions).contains(Version(installed).public, prereleases=True):
        raise ImportError(
            f'acon_mm needs {library.name}{library.versions}, but {installed} is installed: '
            f'run `{_repair(library.name)}`.'
        )


def _mmcv_has_ops() -> bool:
    """Look for ``mmcv._ext`` without importing mmcv, which would load torch and OpenCV."""
    # An editable install has a finder of its own, which PathFinder does not ask.
    mmcv = util.find_spec('mmcv')
    return bool(mmcv and PathFinder.find_spec('mmcv._ext', mmcv.submodule_search_locations))


def _repair(name: str) -> str:
    """Return the shell command that brings a library into its range."""
    python = shlex.quote(sys.executable)
    pip = f'{python} -m pip install'
    if name == 'torch':
        return f'{pip} --upgrade torch torchvision'
    if name == 'mmcv':
        wheel = f'"$(bash {shlex.quote(str(BUILD_MMCV))} {python})"'
        return f'{pip} --force-reinstall --no-deps {wheel}'
    versions = next(library.versions for library in STACK if library.name == name)
    return f"{pip} '{name}{versions}'"
