"""Wheel and sdist hold the package, its configs and its scripts, and nothing else."""

import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import PurePosixPath

import pytest
from packaging.requirements import Requirement


def names_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if '.dist-info/' not in name}


@pytest.fixture(scope='module')
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        return message_from_bytes(archive.read(name))


@pytest.mark.parametrize('folder', ['acon_mm', 'configs', 'tools'])
def test_wheel_holds_every_source_file(wheel, repo_root, folder):
    prefix = '' if folder == 'acon_mm' else 'acon_mm/.mim/'
    sources = [
        path
        for pattern in ('*.py', '*.yml', '*.yaml', '*.sh', 'Snakefile')
        for path in (repo_root / folder).rglob(pattern)
        if '.mim' not in path.parts
    ]
    assert sources
    assert {prefix + path.relative_to(repo_root).as_posix() for path in sources} <= names_of(wheel)


def test_wheel_holds_no_litter(wheel):
    names = names_of(wheel)
    assert {'acon_mm/.mim/model-index.yml', 'acon_mm/py.typed'} <= names
    kinds = {PurePosixPath(name).suffix or PurePosixPath(name).name for name in names}
    assert kinds <= {'.py', '.yml', '.yaml', '.sh', '.md', '.typed', 'Snakefile'}
    assert all(name.startswith('acon_mm/') and '__pycache__' not in name for name in names)


def test_files_of_the_mim_folder_are_files_and_not_links(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read('acon_mm/.mim/configs/detection/retinanet_r50_metaacon.py').decode()
    assert 'acon_mm.MetaAcon' in text


def test_sdist_holds_the_sources_and_documents_and_gives_the_same_wheel(
    wheel, source_copy, build_wheel, run, repo_root, tmp_path
):
    code = f'import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})'
    run(sys.executable, '-c', code, cwd=source_copy)
    (sdist,) = tmp_path.glob('*.tar.gz')
    with tarfile.open(sdist) as archive:
        packed = {name.partition('/')[2] for name in archive.getnames()}
    csrc = source_copy / 'acon_mm' / 'ops' / 'csrc'
    assert {f'acon_mm/ops/csrc/{path.name}' for path in csrc.iterdir()} <= packed
    for folder in ('docs', 'resources'):
        assert {f'{folder}/{path.name}' for path in (repo_root / folder).iterdir()} <= packed
    assert {'Makefile', 'CHANGELOG.md', 'CITATION.cff', 'CONTRIBUTING.md'} <= packed
    assert names_of(build_wheel(sdist, tmp_path)) == names_of(wheel)


def required(metadata, extra=''):
    """Return the names of what pip installs with acon_mm, and with one of its extras."""
    requirements = map(Requirement, metadata.get_all('Requires-Dist'))
    environment = {'extra': extra, 'python_version': '3.12'}
    return {r.name for r in requirements if not r.marker or r.marker.evaluate(environment)}


def test_install_pulls_in_neither_torch_nor_mmcv(metadata):
    # A GPU environment has its own builds of both.
    everything = {Requirement(line).name for line in metadata.get_all('Requires-Dist')}
    assert not {'torch', 'torchvision', 'mmcv'} & everything


@pytest.mark.parametrize(
    ('extra', 'packages'),
    [
        ('det', {'mmdet'}),
        ('seg', {'mmsegmentation', 'ftfy', 'regex'}),
        ('digits', {'scikit-learn', 'pillow'}),
        ('analysis', {'matplotlib', 'tabulate'}),
        ('transfer', {'snakemake', 'pandas', 'scipy'}),
        ('tests', {'pytest', 'hypothesis'}),
    ],
)
def test_package_of_one_part_comes_with_its_extra_alone(metadata, extra, packages):
    assert packages <= required(metadata, extra)
    assert not packages & required(metadata)


def test_make_env_installs_what_every_extra_asks_for(metadata, repo_root):
    listed = (repo_root / 'requirements.txt').read_text()
    assert metadata.get_all('Provides-Extra')
    for extra in metadata.get_all('Provides-Extra'):
        assert f'-r requirements/{extra}.txt\n' in listed


def test_version_of_the_wheel_is_the_version_of_the_package(metadata):
    import acon_mm

    assert metadata['Version'] == acon_mm.__version__
