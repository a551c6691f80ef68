"""``make env`` says what is wrong, trusts nothing half-made, and does nothing twice."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

COPIED = [
    'Makefile',
    'pyproject.toml',
    'requirements.txt',
    'setup.py',
    'requirements',
    'tools/env',
    'acon_mm/version.py',
    'acon_mm/ops/csrc',
]
FAKE_PYTHON = Path(__file__).parent / 'fake_python.sh'


class Checkout:
    """A checkout whose set-up runs with a fake Python that installs nothing."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.root = folder / 'checkout'
        for name in COPIED:
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (source / name).is_dir() else shutil.copy
            copy(source / name, target)
        (folder / 'Python.h').touch()
        self.cache = folder / 'cache'
        self.calls = folder / 'calls'
        self.env = {
            **os.environ,
            'PYTHON': str(FAKE_PYTHON),
            'ACON_MM_CACHE': str(self.cache),
            'ACON_MM_NEED_GB': '0',
            'FAKE_CALLS': str(self.calls),
            'FAKE_INCLUDE': str(folder),
        }

    def make_env(self, **env):
        """Run ``make env``, and return its exit status and messages."""
        self.calls.write_text('')
        return subprocess.run(
            ['make', '--silent', 'env'],
            cwd=self.root,
            env={**self.env, **env},
            capture_output=True,
            text=True,
        )

    def asked(self, task: str) -> int:
        """Return how often the last run asked Python for a task."""
        return sum(call.startswith(task) for call in self.calls.read_text().splitlines())

    @property
    def wheels(self) -> list[Path]:
        """The wheels in the cache, under whichever name."""
        return list(self.cache.rglob('*.whl'))


@pytest.fixture
def checkout(repo_root, tmp_path):
    return Checkout(repo_root, tmp_path)


def assert_refused(result, *parts):
    """The last line is one sentence that holds the parts."""
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1, result.stderr
    for part in parts:
        assert part in errors[0]


def test_set_up_makes_everything_once(checkout):
    first = checkout.make_env()
    assert first.returncode == 0, first.stderr
    assert checkout.asked('-m venv') == 1
    assert checkout.asked('-m pip wheel') == 1
    assert [wheel.parent.name for wheel in checkout.wheels] == ['mmcv2.1.0-torch2-cpu-cp311']
    assert (checkout.root / '.venv/site/acon_mm').samefile(checkout.root / 'acon_mm')

    second = checkout.make_env()
    assert second.returncode == 0
    assert checkout.asked('-m') == 0
    assert second.stderr.splitlines() == ['== .venv is ready; ACON on the cpu: compiled kernel']


def test_second_checkout_takes_the_wheel_from_the_cache(checkout, repo_root, tmp_path):
    checkout.make_env()
    other = Checkout(repo_root, tmp_path / 'other')
    result = other.make_env(ACON_MM_CACHE=str(checkout.cache), FAKE_INCLUDE='/nowhere')
    assert result.returncode == 0
    assert other.asked('-m pip wheel') == 0


def test_changed_pins_are_installed_into_the_same_venv(checkout):
    checkout.make_env()
    with (checkout.root / 'requirements' / 'constraints.txt').open('a') as file:
        file.write('something==1\n')
    assert checkout.make_env().returncode == 0
    assert checkout.asked('-m pip install') > 0
    assert checkout.asked('-m venv') == checkout.asked('-m pip wheel') == 0


@pytest.mark.parametrize(
    'env',
    [
        {},
        {'FAKE_TORCH_VERSION': '3'},
        {'CXX': 'env c++'},
        {'ACON_MM_WITH_KERNEL': 'default'},
    ],
    ids=['sources', 'torch', 'compiler', 'instruction-sets'],
)
def test_kernel_of_other_sources_torch_or_compiler_is_built_anew(checkout, env):
    checkout.make_env()
    if not env:
        with (checkout.root / 'acon_mm/ops/csrc/module.h').open('a') as file:
            file.write('// a remark\n')
    assert checkout.make_env(**env).returncode == 0
    assert checkout.asked('-m pip install') == 1
    assert checkout.asked('-m venv') == checkout.asked('-m pip wheel') == 0
    assert checkout.make_env(**env).returncode == 0
    assert checkout.asked('-m') == 0


def test_kernel_that_could_not_be_built_is_said_every_time_and_stops_nothing(checkout):
    fallback = 'plain torch operations, because the CPU kernel cannot be used: it was not built'
    checkout.make_env(FAKE_KERNEL=fallback, CXX='')
    result = checkout.make_env()
    assert result.returncode == 0
    warning, ready = result.stderr.splitlines()
    assert warning.startswith('== WARNING: acon_mm works, but without its compiled CPU kernel')
    (log,) = (word for word in warning.split() if word.endswith('.log.'))
    assert Path(log.removesuffix('.')).is_file()
    assert ready == f'== .venv is ready; ACON on the cpu: {fallback}'
    assert checkout.asked('-m') == 0


def test_kernel_that_is_not_wanted_is_not_warned_of(checkout):
    result = checkout.make_env(ACON_MM_WITH_KERNEL='0', FAKE_KERNEL='plain torch operations')
    assert result.returncode == 0
    assert 'WARNING' not in result.stderr


def test_other_python_makes_the_venv_anew(checkout):
    checkout.make_env()
    other = checkout.root.parent / 'python3.12'
    other.write_text(FAKE_PYTHON.read_text().replace(':-3.11', ':-3.12'))
    other.chmod(0o755)
    assert checkout.make_env(PYTHON=str(other)).returncode == 0
    assert checkout.asked('-m venv') == 1
    # Without PYTHON the venv that is there is kept, whatever `python3` is.
    assert checkout.make_env(PYTHON='').returncode == 0
    assert checkout.asked('-m') == 0


@pytest.mark.parametrize(
    ('env', 'parts'),
    [
        ({'FAKE_VERSION': '3.8'}, ['is Python 3.8', 'Python 3.10, 3.11 or 3.12', 'PYTHON=']),
        ({'FAKE_VERSION': '3.13'}, ['is Python 3.13', 'Python 3.10, 3.11 or 3.12']),
        ({'PYTHON': 'no-such-python'}, ['no-such-python cannot run', 'PYTHON=']),
        ({'FAKE_VENV': 'missing'}, ['has no venv module', 'apt-get install python3.11-venv']),
        ({'ACON_MM_NEED_GB': '1000000'}, ['1000000 GB', 'free some space']),
    ],
    ids=['old-python', 'new-python', 'no-python', 'no-venv', 'no-disk'],
)
def test_missing_ground_is_named_and_nothing_is_made(checkout, env, parts):
    assert_refused(checkout.make_env(**env), *parts)
    assert not (checkout.root / '.venv').exists()


@pytest.mark.parametrize(
    ('env', 'parts'),
    [
        ({'CXX': 'no-such-compiler'}, ['no C++ compiler', 'apt-get install g++']),
        ({'CXX': 'false'}, ['does not know -std=c++17', 'GCC 10']),
        ({'FAKE_INCLUDE': '/nowhere'}, ['Python.h', 'apt-get install python3-dev']),
        ({'FAKE_TORCH': 'missing'}, ['cannot import torch']),
        ({'FAKE_BUILD': 'fails'}, ['building mmcv 2.1.0 failed', '.log']),
        ({'FAKE_OPS': 'broken'}, ["'import mmcv.ops' fails", '.log']),
    ],
    ids=['no-compiler', 'old-compiler', 'no-headers', 'no-torch', 'build-dies', 'broken-ops'],
)
def test_failed_build_leaves_no_wheel_and_is_resumed(checkout, env, parts):
    result = checkout.make_env(**env)
    assert_refused(result, *parts)
    assert not checkout.wheels
    for log in (word for word in result.stderr.split() if word.endswith('.log')):
        assert Path(log).is_file()

    assert checkout.make_env().returncode == 0
    assert checkout.asked('-m venv') == 0
    assert checkout.asked('-m pip wheel') == 1


@pytest.mark.parametrize('how', ['fails', 'full', 'killed'])
def test_venv_of_an_install_cut_short_is_made_anew(checkout, how):
    result = checkout.make_env(FAKE_INSTALL=how)
    assert result.returncode != 0
    if how == 'fails':
        assert_refused(result, "step 'stack' failed", "run 'make env' again")
        assert 'ERROR: no network' in result.stderr
    if how == 'full':
        assert_refused(result, 'the disk is full', 'TMPDIR')

    assert checkout.make_env().returncode == 0
    assert checkout.asked('-m venv') == 1


def test_machine_that_got_a_gpu_gets_operators_for_it(checkout):
    checkout.make_env()
    assert checkout.make_env(FAKE_DEVICE='cuda9.0').returncode == 0
    assert checkout.asked('-m pip wheel') == 1
    assert checkout.asked('-m pip install') == 1
    assert checkout.asked('-m venv') == 0
    # They work on a machine without a GPU as well, which may share the disk.
    assert checkout.make_env().returncode == 0
    assert checkout.asked('-m') == 0
    # A GPU of another kind needs others.
    assert checkout.make_env(FAKE_DEVICE='cuda8.0').returncode == 0
    assert checkout.asked('-m pip wheel') == 1


def test_gpu_without_nvcc_is_warned_of_every_time(checkout):
    for _ in range(2):
        result = checkout.make_env(FAKE_TOOLKIT='13.0')
        assert result.returncode == 0
        (warning,) = (line for line in result.stderr.splitlines() if 'WARNING' in line)
        assert 'will not train on the GPU: install the CUDA toolkit 13.0' in warning
    assert checkout.asked('-m') == 0


def test_venv_of_somebody_else_is_left_alone(checkout):
    mine = checkout.root / '.venv' / 'mine'
    mine.parent.mkdir()
    mine.touch()
    assert_refused(checkout.make_env(), "was not made by 'make env'", 'move it away')
    assert mine.exists()


def test_moved_checkout_gets_its_own_venv(checkout):
    checkout.make_env()
    checkout.root = checkout.root.rename(checkout.root.with_name('moved'))
    assert checkout.make_env().returncode == 0
    assert checkout.asked('-m venv') == 1


def test_pin_of_mmcv_is_the_version_that_is_built_by_default(repo_root):
    script = (repo_root / 'tools/env/build_mmcv.sh').read_text()
    constraints = (repo_root / 'requirements/constraints.txt').read_text().splitlines()
    (pin,) = (line.split('==')[1] for line in constraints if line.startswith('mmcv=='))
    assert f'MMCV_VERSION:-{pin}}}' in script


def test_bare_make_lists_every_target(repo_root):
    listing = subprocess.run(['make'], cwd=repo_root, capture_output=True, text=True, check=True)
    for target in ('env', 'demo', 'test', 'checkstyle', 'clean'):
        assert f'make {target} ' in listing.stdout
