import math
import os
import random
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from acon_mm.ops import triton_kernel

INTERPRETED = ('triton_interpreted.py', 'triton_norm_interpreted.py')
NAMES = {
    torch.float32: 'fp32',
    torch.float16: 'fp16',
    torch.bfloat16: 'bf16',
    torch.float64: 'fp64',
}
LARGE = torch.empty(8, 64, 56, 56, device='meta')
MANY = torch.empty(32, 512, 14, 14, device='meta')
SMALL = torch.empty(32, 512, 7, 7, device='meta')
LAST = torch.empty(8, 24, 56, 56, device='meta').to(memory_format=torch.channels_last)

needs_triton = pytest.mark.skipif(find_spec('triton') is None, reason='triton is not installed')


@needs_triton
@pytest.mark.parametrize('name', INTERPRETED)
def test_the_interpreted_kernels_hold(name, tmp_path):
    """The tests of the file pass in a process of their own, which interprets the kernels."""
    command = [sys.executable, '-m', 'pytest', Path(__file__).with_name(name), '--noconftest']
    command += ['-q', '-p', 'no:cacheprovider', '--import-mode=importlib']
    env = {**os.environ, 'TRITON_INTERPRET': '1', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


def tile(x, per_sample=False):
    adjacent = triton_kernel.channels_adjacent(x)
    return triton_kernel.tile(x.shape, x.element_size(), adjacent, not per_sample)


@pytest.fixture
def kernels():
    """The module of the kernels; the test is skipped where they cannot be compiled."""
    if find_spec('triton') is None:
        pytest.skip('triton is not installed')
    if os.environ.get('TRITON_INTERPRET') == '1':
        pytest.skip('TRITON_INTERPRET=1 is set, and interpreted kernels are not compiled')
    from acon_mm.ops import triton_device

    return triton_device


@pytest.fixture
def compile_kernel(kernels, tmp_path, monkeypatch):
    """Return a function that compiles a kernel ahead of time, as a launch for ``x`` would."""
    tools()
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def compile_for(name, x, dtype, arch, per_sample=False, aligned=True, numbers=(), without=()):
        kernel = getattr(kernels, name)
        x = x.to(dtype)
        bits = (1 << i for i, param in enumerate(('p1', 'p2', 'beta')) if param in numbers)
        constants = {**tile(x, per_sample).constants, 'numbers': sum(bits), 'pixel_wise': False}
        warps = constants.pop('num_warps')
        if name == 'acon_backward':
            for output in ('dx', 'p1', 'p2', 'beta'):
                constants[f'need_{output}'] = output not in (*numbers, *without)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        signature, hints = {}, {}
        for i, argument in enumerate(kernel.arg_names):
            if argument in constants or argument in ('second_ptr', 'dsecond_ptr'):
                signature[argument] = 'constexpr'
                constants.setdefault(argument, None)
            elif argument.removesuffix('_ptr') in numbers:
                signature[argument] = 'fp32'
            elif argument.endswith('_ptr'):
                is_map = argument in ('x_ptr', 'y_ptr', 'g_ptr', 'dx_ptr')
                signature[argument] = f'*{NAMES[dtype if is_map else wide]}'
                hints[(i,)] = [['tt.divisibility', 16]] if aligned and is_map else []
            else:
                signature[argument] = 'i32'
        source = ASTSource(kernel, signature, constants, hints)
        options = {'num_warps': warps}
        return triton.compile(source, target=GPUTarget('cuda', arch, 32), options=options)

    return compile_for


def tools():
    """Return ptxas and cuobjdump as triton ships them, or skip the test."""
    import triton

    folder = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin'
    paths = [folder / name for name in ('ptxas', 'cuobjdump')]
    for path in paths:
        if not path.is_file():
            pytest.skip(f'triton comes without {path.name}, so nothing can be compiled for a GPU')
    return paths


def resources(compiled, folder):
    """Return what a thread of a compiled kernel uses, such as {'REG': 32, 'STACK': 0}."""
    cubin = folder / 'kernel.cubin'
    cubin.write_bytes(compiled.asm['cubin'])
    command = [tools()[1], '--dump-resource-usage', cubin]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (line,) = re.findall(r'REG:.*', text)
    return {name: int(value) for name, value in re.findall(r'(\w+):(\d+)', line)}


def widest(compiled, operation):
    """Return the bits of the widest load ('ld') or store ('st') of a thread."""
    found = re.findall(rf'\b{operation}\.global(?:\.v(\d))?\.\w(\d+)', compiled.asm['ptx'])
    return max(int(count or 1) * int(bits) for count, bits in found)


@pytest.fixture
def counting(kernels, tmp_path, monkeypatch):
    """The script that counts; the test is skipped where nothing can be compiled."""
    tools()
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / 'tools' / 'benchmarks')
    import count_gpu_work

    return count_gpu_work


@pytest.mark.parametrize(
    'shape', [(64, 64, 112, 112), (256, 116, 14, 14), (64, 2048, 7, 7)], ids=str
)
@pytest.mark.parametrize('arch', [80, 90])
def test_acon_c_takes_few_instructions(shape, arch, counting):
    """In bfloat16, where instructions and not bytes are the limit: at most SiLU's forward.

    Backward, ACON-C has three sums and SiLU has none. Its loop takes at most 1.4 times the
    instructions of SiLU; what is before and after the loop is not in this limit.
    """
    x = torch.empty(shape, dtype=torch.bfloat16, device='meta')
    p = torch.empty(shape[1], device='meta')
    silu, acon = counting.silu(x), counting.acon(x, p, p, p)

    def per_element(work):
        (launch,) = work.launches
        return counting.count_instructions(launch, arch)

    assert per_element(acon[0])[1] <= per_element(silu[0])[1]
    assert per_element(acon[1])[2] <= 1.4 * per_element(silu[1])[1]
    assert [len(work.launches) + work.others for work in acon] == [1, 2]
    assert acon[0].bytes <= 2.01 * x.numel() * 2 and acon[1].bytes <= 3.4 * x.numel() * 2


@pytest.mark.parametrize('shape', [(64, 64, 56, 56), (64, 512, 14, 14)], ids=str)
@pytest.mark.parametrize(
    ('name', 'launches', 'passes'), [('pixel_wise', (1, 2), (2, 3)), ('maximum', (1, 1), (3, 5))]
)
def test_pixel_wise_and_frelu_take_one_pass_each_way(name, launches, passes, shape, counting):
    x = torch.empty(shape, dtype=torch.bfloat16, device='meta')
    for work, launched, n in zip(getattr(counting, name)(x), launches, passes, strict=True):
        assert len(work.launches) + work.others == launched
        assert n <= work.bytes / (2 * x.numel()) <= n + 0.3
        for launch in work.launches:
            used, *_ = counting.machine_code(counting.compile_launch(launch, 90))
            assert used['STACK'] == used['LOCAL'] == 0 and used['REG'] <= 128, used


@pytest.mark.parametrize('batch', [True, False], ids=['training', 'evaluation'])
@pytest.mark.parametrize(
    ('kind', 'launches', 'passes'),
    [
        ('relu', [(3, 3), (2, 2)], [8, 5]),
        ('acon', [(3, 3), (2, 2)], [8, 5]),
        ('channel_wise', [(5, 5), (5, 5)], [8, 8]),
        ('layer_wise', [(4, 4), (4, 4)], [8, 8]),
    ],
)
def test_norm_and_activation_take_few_launches_and_passes(kind, launches, passes, batch, counting):
    x = torch.empty(64, 64, 56, 56, dtype=torch.bfloat16, device='meta')
    works = counting.norm_and(kind, x, batch)
    assert tuple(len(work.launches) + work.others for work in works) == launches[not batch]
    n = x.numel() * x.element_size()
    assert passes[not batch] <= sum(work.bytes for work in works) / n <= passes[not batch] + 0.2


@pytest.mark.parametrize(
    ('shape', 'dtype', 'arch', 'layout'),
    [
        ((64, 64, 56, 56), torch.bfloat16, 80, torch.contiguous_format),
        ((256, 512, 7, 7), torch.float32, 90, torch.channels_last),
    ],
    ids=str,
)
def test_kernels_of_norm_and_activation_spill_nothing(
    shape, dtype, arch, layout, counting, tmp_path
):
    x = torch.empty(shape, dtype=dtype, device='meta', memory_format=layout)
    for kind in ('acon', 'channel_wise', 'layer_wise'):
        for launch in (each for work in counting.norm_and(kind, x) for each in work.launches):
            compiled = counting.compile_launch(launch, arch)
            used = resources(compiled, tmp_path)
            assert used['STACK'] == used['LOCAL'] == 0, (launch.kernel.__name__, used)
            assert not re.search(r'\b(atom|red)\.', compiled.asm['ptx'])


@pytest.mark.parametrize('name', ['acon_forward', 'acon_backward'])
@pytest.mark.parametrize('dtype', NAMES, ids=str)
@pytest.mark.parametrize('arch', [80, 90])
def test_compiled_kernels_spill_nothing_and_add_nothing_atomically(
    name, arch, dtype, compile_kernel, tmp_path
):
    for x, per_sample in [(LARGE, False), (MANY, False), (SMALL, True), (LAST, False)]:
        compiled = compile_kernel(name, x, dtype, arch, per_sample)
        used = resources(compiled, tmp_path)
        most = 255 if dtype == torch.float64 else 168  # float64 takes two registers for a number
        assert used['STACK'] == used['LOCAL'] == 0 and 0 < used['REG'] <= most, used
        assert not re.search(r'\b(atom|red)\.', compiled.asm['ptx'])
        assert f'sm_{arch}' in compiled.asm['ptx']


@pytest.mark.parametrize('name', ['acon_forward', 'acon_backward'])
@pytest.mark.parametrize('x', [LARGE, LAST], ids=['contiguous', 'channels last'])
def test_kernels_read_no_memory_for_numbers_and_spill_nothing(x, name, compile_kernel, tmp_path):
    loads = []
    for numbers in [(), ('p1',), ('p1', 'p2'), ('p1', 'p2', 'beta')]:
        compiled = compile_kernel(name, x, torch.float32, 80, numbers=numbers)
        used = resources(compiled, tmp_path)
        assert used['STACK'] == used['LOCAL'] == 0 and used['REG'] <= 128, used
        loads.append(len(re.findall(r'\bld\.global', compiled.asm['ptx'])))
    assert loads == sorted(set(loads), reverse=True)


@pytest.mark.parametrize(
    ('x', 'dtype', 'bits'),
    [
        (LARGE, torch.float32, 128),
        (LARGE, torch.bfloat16, 128),
        (LARGE, torch.float64, 128),
        (LAST, torch.float32, 128),
        (LAST, torch.float16, 128),
        (torch.empty(2, 3, 14, 14, device='meta'), torch.float32, 128),
        # A plane of 196 elements of 2 bytes begins at a multiple of 8 bytes.
        (torch.empty(2, 3, 14, 14, device='meta'), torch.float16, 64),
        (SMALL, torch.float32, 128),
        (SMALL[:2], torch.float32, 32),
        (LAST[:, :6].contiguous(memory_format=torch.channels_last), torch.float32, 64),
    ],
)
def test_loads_and_stores_are_as_wide_as_the_shape_allows(x, dtype, bits, compile_kernel):
    for name in ('acon_forward', 'acon_backward'):
        compiled = compile_kernel(name, x, dtype, 80)
        assert widest(compiled, 'ld') == widest(compiled, 'st') == bits


def test_an_unaligned_map_is_loaded_one_element_at_a_time(compile_kernel):
    compiled = compile_kernel('acon_forward', LARGE, torch.float32, 80, aligned=False)
    assert widest(compiled, 'ld') == 32


def test_a_few_kernels_serve_the_maps_of_a_detector(kernels):
    """Sizes are no reason to compile again; only constants, dtypes and alignment are."""
    for kernel in (kernels.acon_forward, kernels.acon_backward):
        sizes = [p for p in kernel.params if not (p.is_constexpr or p.name.endswith('_ptr'))]
        assert len(sizes) >= 4
        assert all(size.do_not_specialize for size in sizes)
        pointers = [p for p in kernel.params if p.name.endswith('_ptr')]
        small = [p.name for p in pointers if p.do_not_specialize_on_alignment]
        assert set(small) == {'p1_ptr', 'p2_ptr', 'beta_ptr', 'sums_ptr'} & set(kernel.arg_names)
    draw = random.Random(0)
    constants = {torch.contiguous_format: set(), torch.channels_last: set()}
    for _ in range(500):
        shape = (draw.randint(1, 16), 256, draw.randint(25, 400), draw.randint(25, 400))
        for layout, seen in constants.items():
            x = torch.empty(shape, device='meta', memory_format=layout)
            seen.add(tuple(tile(x).constants.values()))
    # The length of a plane is odd, or divisible by 2, 4 or 8.
    assert len(constants[torch.contiguous_format]) == 4
    assert len(constants[torch.channels_last]) == 1


@pytest.mark.parametrize(
    ('shape', 'layout', 'most'),
    [
        ((64, 64, 112, 112), torch.contiguous_format, 0),
        ((64, 64, 56, 56), torch.contiguous_format, 0),
        ((8, 24, 56, 56), torch.contiguous_format, 0.07),
        ((8, 24, 56, 56), torch.channels_last, 0),
        ((256, 116, 14, 14), torch.contiguous_format, 0.02),
        ((64, 2048, 7, 7), torch.contiguous_format, 0),
    ],
)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32], ids=str)
def test_few_elements_of_tiles_lie_outside_of_the_map(shape, layout, most, dtype):
    x = torch.empty(shape, dtype=dtype, device='meta', memory_format=layout)
    tiling = tile(x)
    splits, groups, samples = tiling.grid
    blocks = tiling.constants['block_lines'] * tiling.constants['block_length']
    tiles = math.ceil(tiling.sizes[2] / tiling.constants['block_length'])
    assert splits * tiling.sizes[4] >= tiles > (splits - 1) * tiling.sizes[4]
    assert x.numel() <= tiles * groups * samples * blocks <= (1 + most) * x.numel()


def test_offsets_within_a_tile_fit_32_bits_and_grids_their_limits():
    shapes = [(64, 2**20), (2, 2**20, 2**9), (1, 3, 2**33), (2**12, 2**16, 2), (9, 2**24, 40)]
    for shape in [*shapes, (1, 64, 2**29), (3, 2**27, 33), (2**17, 8, 3), (2**17, 8)]:
        for layout in ('contiguous', 'channels last'):
            x = torch.empty(shape, device='meta')
            if layout == 'channels last':
                x = x.movedim(1, -1).contiguous().movedim(-1, 1)
            for per_sample in (False, True):
                tiling = tile(x, per_sample)
                if tiling is None:
                    assert max(shape[0] if per_sample else 0, shape[1]) > 65535
                    continue
                assert max(tiling.grid[1:]) <= 65535 and tiling.grid[0] < 2**31
                _, lines, length, *_ = tiling.sizes
                strides = (1, lines) if tiling.constants['adjacent'] else (length, 1)
                ends = (tiling.constants[f'block_{name}'] - 1 for name in ('lines', 'length'))
                assert sum(e * stride for e, stride in zip(ends, strides, strict=True)) < 2**31


def test_products_divide_lines_exactly():
    for shape, layout in [((64, 2048, 7, 7), torch.contiguous_format),
                          ((16, 30000, 16, 15), torch.contiguous_format),
                          ((4, 24, 8, 8), torch.channels_last)]:  # fmt: skip
        tiling = tile(torch.empty(shape, device='meta', memory_format=layout))
        channels, lines, _, magic, _ = tiling.sizes
        last = torch.tensor([lines - 1, lines - lines // channels, lines // 2, 0])
        by = channels if tiling.constants['lookup'] == 2 else lines // channels
        for near in range(-2 * by, 1):
            line = (last + near).clamp(0)
            assert torch.equal(2 * line * magic >> 32, line // by)


@pytest.fixture
def gpu(monkeypatch):
    """What :func:`why_unavailable` asks answers as a machine with two GPUs would."""
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(triton_kernel, 'find_spec', lambda name: name)
    monkeypatch.setattr(triton_kernel, 'import_module', lambda name: name)
    monkeypatch.setattr(shutil, 'which', lambda name: name)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9 - device, 5))


def test_nothing_is_missing_on_a_machine_with_a_gpu(gpu):
    assert triton_kernel.why_unavailable() is None


def test_what_is_missing_is_said(gpu, monkeypatch):
    why = triton_kernel.why_unavailable
    monkeypatch.delenv('CC', raising=False)
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    assert 'needs a C compiler' in why()
    monkeypatch.setenv('CC', 'cc')
    assert why() is None
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8 - device, 5))
    assert why(0) is None and why() is None  # one GPU of two serves
    assert why(1) == 'triton needs compute capability 8.0, but the GPU has 7.5'

    def fail(name):
        raise ImportError('libtriton.so is broken')

    monkeypatch.setattr(triton_kernel, 'import_module', fail)
    assert why() == 'triton does not load: libtriton.so is broken'
    monkeypatch.setattr(triton_kernel, 'find_spec', lambda name: None)
    assert why() == 'triton is not installed'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert why() == 'torch sees no GPU'


def test_the_interpreter_needs_no_gpu(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    assert triton_kernel.why_unavailable() is None
