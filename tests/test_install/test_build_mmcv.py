"""The wheel of mmcv is known by all it depends on, and built with the compiler asked for."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

TORCH = """
class cuda:
    is_available = staticmethod(lambda: {gpus} != [])
    device_count = staticmethod(lambda: len({gpus}))
    get_device_capability = staticmethod(lambda gpu: {gpus}[gpu])
class version:
    cuda = '12.6'
__version__ = '2.6.0+cu126'
"""
CPP_EXTENSION = "CUDA_HOME = {cuda_home!r}  # passes '-std=c++17'"
FAKE_PYTHON = Path(__file__).parent / 'fake_python.sh'


@pytest.fixture
def build(repo_root, tmp_path):
    """A function that runs build_mmcv.sh for a Python, and returns its status and output."""

    def build(*arguments, **env):
        # Settings of the machine that runs the tests do not count.
        kept = {k: v for k, v in os.environ.items() if k not in ('CXX', 'TORCH_CUDA_ARCH_LIST')}
        return subprocess.run(
            [repo_root / 'tools/env/build_mmcv.sh', *arguments],
            env={**kept, 'ACON_MM_CACHE': str(tmp_path / 'cache'), 'ACON_MM_NEED_GB': '0', **env},
            capture_output=True,
            text=True,
        )

    return build


@pytest.fixture
def torch_of(tmp_path):
    """A function that makes a torch that sees some GPUs, and returns the path to import it by."""

    def torch_of(gpus=(), nvcc=True):
        cuda_home = tmp_path / 'cuda'
        (cuda_home / 'bin').mkdir(parents=True)
        if nvcc:
            (cuda_home / 'bin' / 'nvcc').touch()
        utils = tmp_path / 'stubs' / 'torch' / 'utils'
        utils.mkdir(parents=True)
        (utils.parent / '__init__.py').write_text(TORCH.format(gpus=list(gpus)))
        (utils / '__init__.py').touch()
        (utils / 'cpp_extension.py').write_text(CPP_EXTENSION.format(cuda_home=str(cuda_home)))
        return str(tmp_path / 'stubs')

    return torch_of


@pytest.fixture
def fake_env(tmp_path):
    """What fake_python.sh is to be told."""
    (tmp_path / 'Python.h').touch()
    return {'FAKE_CALLS': str(tmp_path / 'calls'), 'FAKE_INCLUDE': str(tmp_path)}


@pytest.fixture
def cached_wheel(tmp_path):
    """A function that puts a wheel for a device into the cache and returns its path."""

    def cached_wheel(device):
        python = f'cp{sys.version_info.major}{sys.version_info.minor}-{os.uname().machine}'
        folder = tmp_path / 'cache' / f'mmcv2.1.0-torch2.6.0+cu126-{device}-{python}'
        folder.mkdir(parents=True)
        wheel = folder / 'mmcv-2.1.0-any.whl'
        wheel.touch()
        return wheel

    return cached_wheel


@pytest.mark.parametrize(
    ('gpus', 'env', 'device'),
    [
        ([], {}, 'cpu'),
        ([(9, 0), (8, 0), (9, 0)], {}, 'cuda8.0_9.0'),
        ([(9, 0)], {'TORCH_CUDA_ARCH_LIST': 'native'}, 'cuda9.0'),
        ([(9, 0)], {'TORCH_CUDA_ARCH_LIST': '8.6;8.0 9.0+PTX'}, 'cuda8.0_8.6_9.0+PTX'),
        ([], {'TORCH_CUDA_ARCH_LIST': '8.0', 'FORCE_CUDA': '1'}, 'cuda8.0'),
    ],
    ids=['cpu', 'gpus', 'native', 'named', 'forced'],
)
def test_cached_wheel_of_the_device_is_all_that_is_printed(
    build, torch_of, cached_wheel, gpus, env, device
):
    wheel = cached_wheel(device)
    env = {**env, 'PYTHONPATH': torch_of(gpus)}
    result = build(sys.executable, **env)
    assert (result.stdout, result.stderr) == (f'{wheel}\n', '')
    # What is installed already is not printed again.
    again = build(sys.executable, wheel.parent.name, **env)
    assert (again.returncode, again.stdout) == (0, '')


def test_gpu_without_nvcc_takes_the_operators_for_the_cpu_with_a_warning(
    build, torch_of, cached_wheel
):
    wheel = cached_wheel('cpu')
    result = build(sys.executable, PYTHONPATH=torch_of([(8, 0)], nvcc=False))
    assert result.stdout == f'{wheel}\n'
    (warning,) = result.stderr.splitlines()
    assert 'WARNING' in warning
    assert 'install the CUDA toolkit 12.6' in warning


def test_forced_cuda_without_a_gpu_asks_for_the_architectures(build, torch_of):
    result = build(sys.executable, PYTHONPATH=torch_of(), FORCE_CUDA='1')
    assert (result.returncode, result.stdout) == (1, '')
    assert "TORCH_CUDA_ARCH_LIST='8.0;9.0'" in result.stderr


def test_compiler_may_be_two_words_and_gets_the_standard_of_torch(build, fake_env, tmp_path):
    compiler = tmp_path / 'compiler'
    seen = tmp_path / 'seen'
    compiler.write_text(f'printf "%s\\n" "$*" >>{shlex.quote(str(seen))}')
    fake = tmp_path / 'python'
    compiles = '*"-m pip wheel"*) $CXX -c -std=c++14 "a b.cpp" ;;'
    fake.write_text(
        f'#!/usr/bin/env bash\ncase "$*" in {compiles} esac\nexec {FAKE_PYTHON} "$@"\n'
    )
    fake.chmod(0o755)
    result = build(str(fake), CXX=f'sh {compiler}', **fake_env)
    assert result.returncode == 0, result.stderr
    assert seen.read_text().splitlines()[-1] == '-c -std=c++17 a b.cpp'


def test_headers_are_compiled_once_with_the_flags_of_the_files_and_read_by_all(
    build, fake_env, tmp_path
):
    compiler, seen = tmp_path / 'compiler', tmp_path / 'seen'
    compiler.write_text(
        f'#!/bin/bash\nprintf "%s\\n" "$*" >>{shlex.quote(str(seen))}\n'
        'while (($#)); do [[ $1 == *.gch ]] && touch "$1"; shift; done\n'
    )
    compiler.chmod(0o755)
    fake = tmp_path / 'python'
    compiles = '; '.join(f'$CXX -MMD -MF {f}.d -DA=1 -c {f}.cpp -o {f}.o' for f in 'ab')
    fake.write_text(
        '#!/usr/bin/env bash\n'
        f'case "$*" in *"-m pip wheel"*) {compiles}; $CXX -shared a.o b.o -o x.so ;; esac\n'
        f'exec {FAKE_PYTHON} "$@"\n'
    )
    fake.chmod(0o755)
    result = build(str(fake), CXX=str(compiler), **fake_env)
    assert result.returncode == 0, result.stderr
    header, a, b, link = seen.read_text().splitlines()[-4:]
    path = header.split()[-3]
    assert header == f'-DA=1 -x c++-header {path} -o {path}.gch'
    assert a == f'-include {path} -MMD -MF a.d -DA=1 -c a.cpp -o a.o'
    assert b == a.replace('a.', 'b.')
    assert link == '-shared a.o b.o -o x.so'


def test_each_build_has_its_own_log(build, fake_env, tmp_path):
    for _ in range(2):
        result = build(str(FAKE_PYTHON), FAKE_BUILD='fails', **fake_env)
        assert result.returncode == 1
    logs = [str(log) for log in (tmp_path / 'cache' / 'logs').iterdir()]
    assert len(logs) == 2
    assert any(log in result.stderr for log in logs)
