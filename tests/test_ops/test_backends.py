"""What computes ACON is chosen by device, dtype and onlooker, or forced by a variable."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from acon_mm.ops import backend_report, backends, cpu_kernel, plain_kernel, triton_kernel

OPS = Path(backends.__file__).parent
LOAD_OPS = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    'ops', {str(OPS / '__init__.py')!r}, submodule_search_locations=[{str(OPS)!r}]
)
ops = importlib.util.module_from_spec(spec)
sys.modules['ops'] = ops
spec.loader.exec_module(ops)
import torch
from ops import backends, cpu_kernel
"""
"""Loads the operator alone: the whole package would take three times as long."""


def in_own_process(code, **variables):
    env = {
        k: v for k, v in os.environ.items() if k not in ('ATEN_CPU_CAPABILITY', 'ACON_MM_BACKEND')
    }
    command = [sys.executable, '-c', LOAD_OPS + code]
    return subprocess.run(command, env={**env, **variables}, capture_output=True, text=True)


@pytest.fixture
def reasons(monkeypatch):
    """Why each kernel is unavailable, nothing at first: a dictionary to change."""
    reasons = {}
    monkeypatch.setattr(backends, '_why_unavailable', lambda name, device=None: reasons.get(name))
    monkeypatch.setattr(backends, '_forced', None)
    return reasons


@pytest.fixture
def chosen_for(monkeypatch):
    """A function that returns what is chosen for a tensor of a device that need not be here."""

    def chosen_for(device, dtype=torch.float32):
        with monkeypatch.context() as patch:
            patch.setattr(backends, 'is_traced_or_transformed', lambda x: False)
            x = SimpleNamespace(device=torch.device(device), dtype=dtype)
            return backends.choose_kernel(x)

    return chosen_for


@pytest.mark.parametrize(
    ('device', 'kernel'),
    [
        ('cpu', cpu_kernel),
        ('cuda', triton_kernel),
        ('cuda:1', triton_kernel),
        ('mps', plain_kernel),
    ],
)
def test_each_device_has_its_kernel(reasons, chosen_for, device, kernel):
    assert chosen_for(device) is kernel


def test_a_gpu_that_is_too_old_takes_no_kernel_from_the_others(monkeypatch, chosen_for):
    monkeypatch.setattr(backends, '_forced', None)
    old = 'triton needs compute capability 8.0'
    why = {0: None, 1: old, None: None}.get
    monkeypatch.setattr(triton_kernel, 'why_unavailable', why)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    backends._why_unavailable.cache_clear()
    try:
        assert chosen_for('cuda:0') is triton_kernel
        assert chosen_for('cuda:1') is plain_kernel
        report = backend_report()
    finally:
        backends._why_unavailable.cache_clear()
    assert 'cuda: Triton' in report and f'cuda:1: plain torch operations, because {old}' in report
    assert 'cuda:0' not in report


def test_parameters_of_a_subclass_go_to_the_formula(reasons):
    class Spread(torch.Tensor):
        pass

    x, plain = torch.ones(2, 3), torch.ones(3)
    spread = plain.as_subclass(Spread)
    assert backends.choose_kernel(x, plain, 0.0, torch.nn.Parameter(plain)) is cpu_kernel
    for params in [(spread, plain, plain), (plain, plain, spread), (0.0, spread, 1.0)]:
        assert backends.choose_kernel(x, *params) is None


@pytest.mark.parametrize(
    ('missing', 'device', 'other'), [('cpu', 'cpu', 'cuda'), ('triton', 'cuda', 'cpu')]
)
def test_unavailable_kernel_is_replaced_on_its_device_alone(
    reasons, chosen_for, missing, device, other
):
    reasons[missing] = 'it is being repaired'
    assert chosen_for(device) is plain_kernel
    assert chosen_for(other) is not plain_kernel
    of_device = dict(line.split(': ', 1) for line in backend_report().splitlines())
    assert of_device[device] == 'plain torch operations, because it is being repaired'
    assert 'because' not in of_device[other]


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
@pytest.mark.parametrize('dtype', [torch.int64, torch.complex64, torch.float8_e4m3fn], ids=str)
def test_dtypes_that_no_kernel_takes_get_the_formula(reasons, chosen_for, device, dtype):
    assert chosen_for(device, dtype) is None


def test_no_kernel_is_chosen_for_what_is_traced_or_transformed(reasons):
    """A kernel would be a hole in the graph, or be called on what holds no numbers."""
    x = torch.randn(2, 3)
    assert backends.choose_kernel(x) is cpu_kernel
    assert backends.choose_kernel(torch.nn.Parameter(x)) is cpu_kernel

    seen = []

    def look(x):
        seen.append(backends.choose_kernel(x))
        return 2 * x

    torch.jit.trace(look, x, check_trace=False)
    torch.func.vmap(look)(x)
    make_fx(look)(x)
    torch.func.grad(lambda x: look(x).sum())(x)
    with forward_ad.dual_level():
        look(forward_ad.make_dual(x, x))
    look(x.to('meta'))
    look(x.as_subclass(type('Mine', (torch.Tensor,), {})))
    assert seen == [None] * 7
    assert backends.choose_kernel(x) is cpu_kernel


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_forced_backend_is_taken_whatever_else_is_there(reasons, chosen_for, monkeypatch, device):
    monkeypatch.setattr(backends, '_forced', 'plain')
    assert chosen_for(device) is plain_kernel
    monkeypatch.setattr(backends, '_forced', 'formula')
    assert chosen_for(device) is None


@pytest.mark.parametrize(('forced', 'other'), [('cpu', 'cuda'), ('triton', 'cpu')])
def test_forced_kernel_leaves_other_devices_to_plain_operations(
    reasons, chosen_for, monkeypatch, forced, other
):
    monkeypatch.setattr(backends, '_forced', forced)
    assert chosen_for('cpu' if other == 'cuda' else 'cuda') is backends.KERNELS[forced]
    assert chosen_for(other) is plain_kernel
    assert f'{other}: plain torch operations, because ACON_MM_BACKEND={forced} is set' in (
        backend_report()
    )


@pytest.mark.parametrize('forced', ['cpu', 'triton'])
def test_forced_kernel_that_is_not_there_is_named_with_its_reason(
    reasons, chosen_for, monkeypatch, forced
):
    monkeypatch.setattr(backends, '_forced', forced)
    reasons[forced] = 'it is being repaired'
    with pytest.raises(RuntimeError, match=f'ACON_MM_BACKEND={forced} .* it is being repaired'):
        chosen_for('cpu')


def test_variable_that_names_no_backend_is_refused_with_those_there_are(monkeypatch):
    monkeypatch.setenv('ACON_MM_BACKEND', 'avx512')
    with pytest.raises(ValueError, match=r"ACON_MM_BACKEND must be .*'plain'.* it is 'avx512'"):
        backends.read_forced_backend()
    monkeypatch.setenv('ACON_MM_BACKEND', '')
    assert backends.read_forced_backend() is None
    done = in_own_process('', ACON_MM_BACKEND='avx512')
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith('ValueError: the environment variable')


@pytest.mark.parametrize(
    ('name', 'kernel', 'report'),
    [
        (
            'plain',
            'ops.plain_kernel',
            'cpu: plain torch operations, because ACON_MM_BACKEND=plain',
        ),
        ('formula', 'None', 'the formula everywhere, because ACON_MM'),
    ],
)
def test_variable_forces_a_backend_in_a_new_process(name, kernel, report):
    code = (
        'print(getattr(backends.choose_kernel(torch.ones(2, 3)), "__name__", None))\n'
        'print(ops.backend_report())\n'
        'y = ops.acon(torch.tensor([[-2.0, 3.0]]), 1.0, 0.0, 1.0)\n'
        'torch.testing.assert_close(y, torch.nn.functional.silu(torch.tensor([[-2.0, 3.0]])))\n'
    )
    done = in_own_process(code, ACON_MM_BACKEND=name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == kernel
    assert done.stdout.splitlines()[1].startswith(report)


@pytest.mark.parametrize('name', ['default', 'avx2'])
def test_variable_of_torch_picks_the_instruction_set(name):
    if not list(OPS.glob(f'_cpu_{name}.*')):
        pytest.skip(f'the CPU kernel was not built for {name}')
    # Torch compares the variable with what the CPU has, and takes no more than that.
    code = (
        'print(torch.backends.cpu.get_cpu_capability().lower())\n'
        'print(cpu_kernel._module.__name__, ops.backend_report().splitlines()[0])\n'
        'x = torch.ones(2, 3)\n'
        'torch.testing.assert_close(ops.acon(x, 1.0, 0.0, 0.0), x / 2)'
    )
    done = in_own_process(code, ATEN_CPU_CAPABILITY=name)
    assert done.returncode == 0, done.stderr
    capability, kernel = done.stdout.splitlines()
    if capability != name:
        pytest.skip(f'this CPU has no {name}')
    assert kernel == f'ops._cpu_{name} cpu: compiled kernel for {name.upper()}'


@pytest.fixture
def modules(monkeypatch):
    """What is there of the compiled modules, as versions of torch or errors, by name."""
    modules = {}

    def import_module(name):
        found = modules.get(name.rpartition('_')[2], ModuleNotFoundError(name))
        if isinstance(found, Exception):
            raise found
        version, _, interface = found.partition(' ')
        interface = int(interface or cpu_kernel.INTERFACE)
        return SimpleNamespace(torch_version=version, interface=interface)

    monkeypatch.setattr(cpu_kernel, 'import_module', import_module)
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX512')
    return modules


VERSION = re.match(r'\d+\.\d+\.\d+', torch.__version__)[0]


@pytest.mark.parametrize(
    ('there', 'name'),
    [
        ({'avx512': VERSION, 'avx2': VERSION, 'default': VERSION}, 'avx512'),
        ({'avx2': VERSION, 'default': VERSION}, 'default'),
        ({'avx512': '1.13.0', 'default': VERSION}, 'default'),
        ({'avx512': f'{VERSION} 1', 'default': VERSION}, 'default'),
        ({'avx512': ImportError('undefined symbol'), 'default': VERSION}, 'default'),
    ],
    ids=['all', 'not-built', 'of-other-torch', 'of-other-sources', 'broken'],
)
def test_module_of_the_cpu_is_loaded_and_else_that_for_any_cpu(modules, there, name):
    modules.update(there)
    module, loaded = cpu_kernel._load()
    assert (module.torch_version, loaded) == (VERSION, name)


@pytest.mark.parametrize(
    ('there', 'reason'),
    [
        ({}, 'it was not built'),
        ({'avx2': VERSION}, 'it was not built'),
        ({'avx512': '1.13.0', 'default': '1.13.0'}, 'it was built for torch 1.13.0'),
        ({'avx512': f'{VERSION} 1'}, 'from other sources than these: install acon_mm again'),
        ({'default': ImportError('undefined symbol: x')}, 'does not load: undefined symbol: x'),
    ],
    ids=['none', 'for-another-cpu', 'of-other-torch', 'of-other-sources', 'broken'],
)
def test_kernel_that_cannot_be_used_is_refused_with_its_reason(modules, there, reason):
    modules.update(there)
    module, why = cpu_kernel._load()
    assert module is None
    assert reason in why
