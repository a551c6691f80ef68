"""The CPU kernel is built where it can be; without it acon_mm is installed and works.

The sources are replaced by some that compile in no time: what is tested is the way they take.
"""

import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

TINY = """
#include <Python.h>
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "kernel", nullptr, -1, nullptr};
#define NAMED(name) PyInit_##name
#define INIT(name) NAMED(name)
PyMODINIT_FUNC INIT(TORCH_EXTENSION_NAME)() { return PyModule_Create(&definition); }
"""
NO_TORCH = 'import sys; sys.modules["torch"] = None\n'
BUILD = 'import setuptools.build_meta as b, sys; b.build_{}(sys.argv[1])'


@pytest.fixture
def tree(source_copy, tmp_path):
    """A copy of what is packaged, whose kernel does nothing."""
    tree = tmp_path / 'tree'
    shutil.copytree(source_copy, tree, ignore=shutil.ignore_patterns('build'))
    (tree / 'acon_mm/ops/csrc/module.h').write_text(TINY)
    return tree


@pytest.fixture
def build(run, tree, tmp_path):
    """A function that builds a 'wheel' or an 'editable' one, and returns it and what was said."""

    def build(kind='wheel', before='', **env):
        folder = tmp_path / f'wheel{len(list(tmp_path.iterdir()))}'
        code = before + BUILD.format(kind)
        env = {'ACON_MM_WITH_KERNEL': '1', **env}
        said = run(sys.executable, '-c', code, folder, cwd=tree, env=env)
        (wheel,) = folder.glob('*.whl')
        return wheel, said

    return build


def modules_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name) for name in archive.namelist()}
    return {path.name.partition('.')[0] for path in names if path.suffix == '.so'}


def test_wheel_with_a_kernel_is_of_its_platform_and_holds_what_compiled(build, tree):
    wheel, _ = build()
    names = {f'_cpu_{path.stem.partition("_")[2]}' for path in tree.rglob('module_*.cpp')}
    built = modules_of(wheel)
    assert '_cpu_default' in built
    assert built <= names
    python = f'cp{sys.version_info.major}{sys.version_info.minor}'
    assert f'-{python}-{python}-linux_' in wheel.name

    # The folder of the first build is there, and must not lend its module to the second wheel.
    (tree / 'acon_mm/ops/csrc/module_default.cpp').write_text('#error "not today"\n')
    wheel, _ = build()
    assert modules_of(wheel) == built - {'_cpu_default'}
    wheel, _ = build(ACON_MM_WITH_KERNEL='default')
    assert modules_of(wheel) == set()


def test_editable_install_replaces_the_kernel_of_this_python_and_no_other(build, tree):
    ops = tree / 'acon_mm/ops'
    own = ops / f'_cpu_default{sysconfig.get_config_var("EXT_SUFFIX")}'
    stale = own.with_name(own.name.replace('default', 'avx2'))
    other = ops / '_cpu_default.cpython-39-x86_64-linux-gnu.so'
    for path in (own, stale, other):
        path.write_text('old')

    build('editable', ACON_MM_WITH_KERNEL='default')
    assert set(ops.glob('_cpu_*.so')) == {own, other}
    assert own.read_bytes().startswith(b'\x7fELF')
    assert other.read_text() == 'old'

    # Without a kernel of these sources, that of older ones must not stay.
    build('editable', ACON_MM_WITH_KERNEL='0')
    assert set(ops.glob('_cpu_*.so')) == {other}


@pytest.mark.parametrize(
    ('before', 'env', 'reason'),
    [
        ('', {'CXX': 'no-such-compiler'}, "there is no C++ compiler 'no-such-compiler'"),
        ('', {'CXX': 'false'}, "the C++ compiler 'false' does not compile"),
        (NO_TORCH, {}, 'torch is not importable where acon_mm is built'),
    ],
    ids=['no-compiler', 'broken-compiler', 'no-torch'],
)
def test_wheel_without_a_kernel_is_pure_and_its_build_says_why(build, before, env, reason):
    wheel, said = build(before=before, **env)
    assert f'acon_mm: the CPU kernel is not built: {reason}' in said
    assert wheel.name.endswith('-py3-none-any.whl')
    assert modules_of(wheel) == set()


def test_variable_that_names_no_instruction_set_is_refused(build):
    with pytest.raises(AssertionError, match=r"ACON_MM_WITH_KERNEL must be 0, 1 .* it is 'sse'"):
        build(ACON_MM_WITH_KERNEL='sse')


def test_installed_wheel_without_a_kernel_works_and_says_so(wheel_python, run, tmp_path):
    code = (
        'import torch\n'
        'from acon_mm.models import MetaAcon\n'
        'from acon_mm.ops import acon, backend_report\n'
        'x = torch.linspace(-3, 3, 24, requires_grad=True).view(2, 3, 4)\n'
        'y = acon(x, 1.0, 0.0, 1.0)\n'
        'torch.testing.assert_close(y, torch.nn.functional.silu(x))\n'
        'MetaAcon(3)(x.unsqueeze(3)).sum().backward()\n'
        'print(backend_report())\n'
    )
    report = run(wheel_python, '-c', code, cwd=tmp_path, env={'ACON_MM_BACKEND': ''})
    assert 'cpu: plain torch operations' in report
    assert 'it was not built' in report


@pytest.mark.slow
def test_installed_wheel_with_a_kernel_uses_it(source_copy, run, tmp_path):
    """A minute of compiling; ``make env`` builds the modules for all instruction sets."""
    env = dict(ACON_MM_WITH_KERNEL='default', ATEN_CPU_CAPABILITY='default', ACON_MM_BACKEND='')
    tree = tmp_path / 'tree'
    shutil.copytree(source_copy, tree)
    run(sys.executable, '-c', BUILD.format('wheel'), tmp_path, cwd=tree, env=env)
    (wheel,) = tmp_path.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / 'site')
    code = 'import acon_mm.ops as ops; print(ops.__file__); print(ops.backend_report())'
    found = run(sys.executable, '-c', code, cwd=tmp_path / 'site', env=env).splitlines()
    assert found[-4].startswith(str(tmp_path / 'site'))
    assert found[-3] == 'cpu: compiled kernel for DEFAULT'
