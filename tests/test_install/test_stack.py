"""A wrong stack is named in one line, with the command that repairs it."""

import re
import subprocess
import sys
from importlib import invalidate_caches, metadata, util
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder

import pytest

from acon_mm import _stack

INSTALLED = {
    'torch': '2.14.1',
    'mmcv': '2.1.0',
    'mmengine': '0.10.7',
    'mmdet': '3.3.0',
    'mmpretrain': '1.2.0',
    'mmsegmentation': '1.2.2',
}


@pytest.fixture
def installed(monkeypatch):
    """The versions that the check sees: a dictionary to change."""
    versions = dict(INSTALLED)

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, 'version', version)
    return versions


def message_of_check():
    with pytest.raises(ImportError) as error:
        _stack.check_stack()
    message = str(error.value)
    assert '\n' not in message
    return message


def test_tested_stack_passes(installed):
    _stack.check_stack()


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        ('torch', '2.1.0+cu121'),
        ('torch', '2.8.0a0+gitabcdef'),
        ('mmcv', '2.0.0rc4'),
        ('mmengine', '0.10.0'),
    ],
)
def test_edge_of_the_range_passes(installed, name, version):
    installed[name] = version
    _stack.check_stack()


@pytest.mark.parametrize('name', ['mmdet', 'mmsegmentation'])
def test_library_of_one_task_may_be_missing(installed, name):
    del installed[name]
    _stack.check_stack()


@pytest.mark.parametrize(
    ('name', 'version', 'repair'),
    [
        ('torch', '2.0.1', '--upgrade torch torchvision'),
        ('torch', None, '--upgrade torch torchvision'),
        ('mmcv', '1.7.2', 'build_mmcv.sh'),
        ('mmcv', '2.2.0', 'build_mmcv.sh'),
        ('mmcv', None, 'build_mmcv.sh'),
        ('mmengine', '0.7.4', "'mmengine>=0.10.0,<1'"),
        ('mmengine', None, "'mmengine>=0.10.0,<1'"),
        ('mmdet', '2.28.2', "'mmdet>=3.3.0,<4'"),
        ('mmpretrain', '1.0.0', "'mmpretrain>=1.2.0,<2'"),
        ('mmpretrain', None, "'mmpretrain>=1.2.0,<2'"),
        ('mmsegmentation', '0.30.0', "'mmsegmentation>=1.2.2,<2'"),
    ],
)
def test_wrong_library_is_named_with_its_repair(installed, name, version, repair):
    installed[name] = version
    if version is None:
        del installed[name]
    message = message_of_check()
    found = 'not installed' if version is None else f'but {version} is installed'
    assert message.startswith(f'acon_mm needs {name}')
    assert found in message
    command = re.search('`(.+)`', message).group(1)
    assert command.startswith(f'{sys.executable} -m pip install')
    assert repair in command


FORKS = {
    'torch': '2.8.0',
    'onedl-mmcv': '2.3.6',
    'onedl-mmengine': '0.10.12',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmpretrain': '1.3.6',
    'onedl-mmsegmentation': '1.4.2',
}


@pytest.fixture
def forks(installed):
    """The versions that the check sees where the maintained forks are installed."""
    installed.clear()
    installed.update(FORKS)
    return installed


def test_forks_pass(forks):
    _stack.check_stack()


@pytest.mark.parametrize(
    ('name', 'version', 'repair'),
    [
        ('onedl-mmcv', '2.2.0', 'MMCV_PACKAGE=onedl-mmcv bash '),
        ('onedl-mmcv', None, 'MMCV_PACKAGE=onedl-mmcv bash '),
        ('onedl-mmengine', None, "'onedl-mmengine>=0.10.8,<1'"),
        ('onedl-mmdetection', '4.0.0', "'onedl-mmdetection>=3.4,<4'"),
        ('onedl-mmpretrain', None, "'onedl-mmpretrain>=1.3,<2'"),
    ],
)
def test_a_wrong_fork_is_named_with_its_repair(forks, name, version, repair):
    forks[name] = version
    if version is None:
        del forks[name]
    message = message_of_check()
    assert message.startswith(f'acon_mm needs {name}>')
    assert repair in message


def test_where_torch_is_alone_its_version_alone_is_checked(installed, monkeypatch):
    monkeypatch.setattr(_stack, 'has_openmmlab', lambda: False)
    installed.clear()
    installed['torch'] = '2.15.0'
    _stack.check_stack()
    installed['torch'] = '2.0.1'
    assert message_of_check().startswith('acon_mm needs torch>=2.1, but 2.0.1 is installed')


@pytest.mark.parametrize('hidden', ['mmcv._ext', 'mmcv'])
def test_mmcv_without_compiled_ops_is_named_with_its_repair(installed, monkeypatch, hidden):
    monkeypatch.delitem(sys.modules, 'mmcv', raising=False)  # its spec would be taken from there
    find_spec = _stack.PathFinder.find_spec
    monkeypatch.setattr(
        _stack.PathFinder,
        'find_spec',
        lambda name, *path: None if name == hidden else find_spec(name, *path),
    )
    message = message_of_check()
    assert 'compiled ops' in message
    assert 'build_mmcv.sh' in message


def test_mmcv_that_only_an_editable_finder_finds_has_its_ops(installed, monkeypatch, tmp_path):
    class EditableFinder:
        """Finds mmcv in a folder outside ``sys.path``, as setuptools' editable installs do."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == 'mmcv':
                return util.spec_from_file_location(name, package / '__init__.py')

    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').touch()
    monkeypatch.delitem(sys.modules, 'mmcv', raising=False)
    monkeypatch.setattr(sys, 'meta_path', [EditableFinder, PathFinder])
    monkeypatch.setattr(sys, 'path', [])
    assert 'compiled ops' in message_of_check()
    (package / f'_ext{EXTENSION_SUFFIXES[0]}').touch()
    invalidate_caches()
    _stack.check_stack()


def test_command_that_repairs_mmcv_names_a_script_that_exists():
    assert _stack.BUILD_MMCV.is_file()


def test_check_imports_none_of_the_libraries(repo_root):
    # Loaded by its path, since the package imports mmengine once the check has passed.
    code = (
        'import runpy, sys\n'
        f'runpy.run_path({str(repo_root / "acon_mm/_stack.py")!r})["check_stack"]()\n'
        'assert not {"torch", "mmcv", "mmengine"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
