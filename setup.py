"""Packaging of acon_mm."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
MIM = ('configs', 'tools', 'model-index.yml')
"""What OpenMMLab's ``.mim`` folder holds. In a checkout these are symlinks."""


class BuildWithMim(build_py):
    """Copy configs and tools into ``acon_mm/.mim`` of a wheel, where there are no symlinks."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name in MIM:
            for source in files_of(ROOT / name):
                target = Path(self.build_lib, 'acon_mm', '.mim', source.relative_to(ROOT))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)


def files_of(path: Path) -> list[Path]:
    """Return the files that travel: code, configs and what is said about them."""
    if path.is_file():
        return [path]
    kept = ('.py', '.yml', '.sh', '.md')
    return sorted(p for p in path.rglob('*') if p.suffix in kept and p.is_file())


def read(name: str) -> str:
    """Return the text of a file of this folder."""
    return (ROOT / name).read_text(encoding='utf-8')


def requirements(name: str) -> list[str]:
    """Return the requirements of a file, without its comments."""
    lines = (line.partition('#')[0].strip() for line in read(f'requirements/{name}').splitlines())
    return [line for line in lines if line]


setup(
    name='acon_mm',
    version=re.search(r"__version__ = '(.+)'", read('acon_mm/version.py')).group(1),
    description='ACON activations for mmpretrain, mmdetection and mmsegmentation',
    long_description=read('README.md'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='computer vision, activation function, object detection, OpenMMLab',
    classifiers=[
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['acon_mm', 'acon_mm.*']),
    python_requires='>=3.10',
    install_requires=requirements('runtime.txt'),
    extras_require={'tests': requirements('tests.txt')},
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
