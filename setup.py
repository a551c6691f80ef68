"""The steps of the build that need code: the CPU kernel and the folder ``.mim``.

pyproject.toml holds everything else.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
INSTRUCTION_SETS = {
    'default': [],
    'avx2': ['-mavx2', '-mfma', '-mf16c'],
    'avx512': ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma', '-mf16c'],
}
"""What the CPU kernel is built for, all of it: the CPU that runs it chooses (see ops)."""
MIM = ('configs', 'tools', 'model-index.yml')
"""What OpenMMLab's ``.mim`` folder holds. In a checkout these are symlinks."""


class BuildWithMim(build_py):
    """Copy configs and tools into ``acon_mm/.mim`` of a wheel, where there are no symlinks.

    What an earlier build left of the kernel goes into no wheel.
    """

    def run(self) -> None:
        super().run()
        for module in Path(self.build_lib, 'acon_mm', 'ops').glob('_cpu_*'):
            module.unlink()
        if self.editable_mode:
            # Should the kernel of these sources not be built, that of older ones must not stay.
            # The suffix names the Python: the kernels of other environments are left alone.
            suffix = sysconfig.get_config_var('EXT_SUFFIX')
            for module in (ROOT / 'acon_mm/ops').glob(f'_cpu_*{suffix}'):
                module.unlink()
            return
        for name in MIM:
            for source in files_of(ROOT / name):
                target = Path(self.build_lib, 'acon_mm', '.mim', source.relative_to(ROOT))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)


def instruction_sets() -> list[str]:
    """Return the names of the instruction sets that the CPU kernel is to be built for.

    The environment variable ACON_MM_WITH_KERNEL names some of them, 'default,avx2', or is '0'.
    """
    known = list(INSTRUCTION_SETS) if platform.machine() in ('x86_64', 'AMD64') else ['default']
    wanted = os.environ.get('ACON_MM_WITH_KERNEL') or '1'
    if wanted in ('0', '1'):
        return known if wanted == '1' else []
    names = wanted.split(',')
    if not set(names) <= set(known):
        raise SystemExit(
            f'the environment variable ACON_MM_WITH_KERNEL must be 0, 1 or some of '
            f'{",".join(known)}, but it is {wanted!r}'
        )
    return names


def why_not_compiled() -> str | None:
    """Return why no extension of Python can be compiled here, None if one can."""
    compiler = os.environ.get('CXX') or sysconfig.get_config_var('CXX') or 'c++'
    command = [*shlex.split(compiler), '-fsyntax-only', '-x', 'c++', '-']
    include = f'-I{sysconfig.get_path("include")}'
    try:
        subprocess.run(
            [*command, include], input=b'#include <Python.h>', capture_output=True, check=True
        )
    except OSError:
        return f"there is no C++ compiler '{compiler}'"
    except subprocess.CalledProcessError:
        return f"the C++ compiler '{compiler}' does not compile a file that includes Python.h"


def cpu_kernel() -> dict:
    """Return what setup() builds the CPU kernel from, nothing where it cannot be built.

    A module that does not compile is left out with a warning; acon_mm works without any.
    """
    sets = instruction_sets()
    if not sets:
        return {}
    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError:
        reason = 'torch is not importable where acon_mm is built (see pip --no-build-isolation)'
    else:
        reason = why_not_compiled()
    if reason is not None:
        print(f'acon_mm: the CPU kernel is not built: {reason}')
        return {}
    modules = [
        CppExtension(
            f'acon_mm.ops._cpu_{name}',
            [f'acon_mm/ops/csrc/module_{name}.cpp'],
            define_macros=[
                ('CPU_CAPABILITY', name.upper()),
                (f'CPU_CAPABILITY_{name.upper()}', None),
            ],
            # OpenMP is compiled in but not linked: torch has loaded its own copy, and a second
            # one would keep threads of its own. GCC's own AVX-512 headers set off -Wuninitialized.
            extra_compile_args=[
                *INSTRUCTION_SETS[name],
                *('-O3', '-g0', '-fopenmp', '-fvisibility=hidden'),
                *(
                    '-Wno-unknown-pragmas',
                    '-Wno-psabi',
                    '-Wno-uninitialized',
                    '-Wno-maybe-uninitialized',
                ),
            ],
            optional=True,
        )
        for name in sets
    ]

    class BuildKernel(BuildExtension.with_options(use_ninja=False)):
        """Compile the modules side by side, and take none from an earlier build.

        The folder ``build`` knows neither the version of torch nor the flags.
        """

        def finalize_options(self) -> None:
            super().finalize_options()
            self.force = True
            self.parallel = self.parallel or os.cpu_count()

        def build_extension(self, ext: Extension) -> None:
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
            super().build_extension(ext)

    return dict(ext_modules=modules, cmdclass=dict(build_ext=BuildKernel))


def files_of(path: Path) -> list[Path]:
    """Return the files that travel: code, configs and what is said about them."""
    if path.is_file():
        return [path]
    kept = ('.py', '.yml', '.yaml', '.sh', '.md', 'Snakefile')
    return sorted(p for p in path.rglob('*') if (p.suffix or p.name) in kept and p.is_file())


kernel = cpu_kernel()
setup(
    ext_modules=kernel.get('ext_modules', []),
    cmdclass={'build_py': BuildWithMim, **kernel.get('cmdclass', {})},
)
