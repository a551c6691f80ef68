"""acon_mm as others have it: from a wheel, in an environment without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

SHIPPED = [
    'acon_mm',
    'configs',
    'docs',
    'requirements',
    'resources',
    'tools',
    'CHANGELOG.md',
    'CITATION.cff',
    'CONTRIBUTING.md',
    'LICENSE',
    'MANIFEST.in',
    'Makefile',
    'README.md',
    'model-index.yml',
    'pyproject.toml',
    'requirements.txt',
    'setup.py',
]
PIP = (sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check')


@pytest.fixture(scope='session')
def run() -> Callable:
    """A function that runs a command outside this Python's settings and returns its output.

    It takes environment variables; the CPU kernel, half a minute of compiling, is not built
    unless they say so.
    """

    def run(*command, env: dict[str, str] | None = None, **kwargs) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith('PYTHON')}
        env = {**inherited, 'ACON_MM_WITH_KERNEL': '0', **(env or {})}
        command = [str(part) for part in command]
        result = subprocess.run(command, env=env, capture_output=True, text=True, **kwargs)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture(scope='session')
def source_copy(repo_root, tmp_path_factory) -> Path:
    """A copy of what is packaged, for builds: they write beside their sources."""
    copy = tmp_path_factory.mktemp('source')
    ignored = shutil.ignore_patterns('__pycache__', '*.egg-info', '*.so')
    for name in SHIPPED:
        source = repo_root / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, copy)
    return copy


@pytest.fixture(scope='session')
def build_wheel(run) -> Callable[[Path, Path], Path]:
    """A function that builds a wheel of a folder or an sdist into a folder."""

    def build(source: Path, folder: Path) -> Path:
        run(*PIP, 'wheel', '--no-deps', '--no-build-isolation', '-w', folder, source)
        return next(folder.glob('*.whl'))

    return build


@pytest.fixture(scope='session')
def wheel(source_copy, build_wheel, tmp_path_factory) -> Path:
    """The wheel, built from the sources."""
    return build_wheel(source_copy, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='session')
def wheel_python(wheel, run, tmp_path_factory) -> Path:
    """The Python of an environment that has acon_mm from its wheel and the heavy stack by a path.

    A line of a ``.pth`` file adds a folder to ``sys.path``, but runs no ``.pth`` file that lies in
    it: the checkout's editable install stays out.
    """
    folder = tmp_path_factory.mktemp('clean') / 'venv'
    venv.create(folder, symlinks=True)
    python = folder / 'bin' / 'python'
    site = run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').strip()
    (Path(site) / 'stack.pth').write_text(sysconfig.get_path('purelib') + '\n')
    run(*PIP, '--python', python, 'install', '--no-deps', '--no-index', wheel)
    return python
