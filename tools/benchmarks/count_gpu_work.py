"""Count what an activation asks of a GPU, without one.

Each launch is recorded, not made, on tensors without memory. Then its kernel is compiled ahead of
time, and its machine code is counted. The table has, for each activation, dtype, shape and
architecture: the launches; the bytes that are read and written, in bytes of the map (N); the
machine instructions of a thread for each element, of all kernels that pass over the map together
and of their loops alone; the most registers of a thread, and the bytes that it spills. SiLU's
formula, compiled by the same compiler with its own exponential and division, is the measure.

Examples:
    python tools/benchmarks/count_gpu_work.py --arch 90
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from acon_mm.ops import triton_kernel, triton_norm
from acon_mm.ops.norm_act import Activation, Norm, NormedLayer

SHAPES = [(64, 64, 112, 112), (64, 256, 56, 56), (256, 116, 14, 14), (64, 2048, 7, 7)]
NAMES = {
    torch.float32: 'fp32',
    torch.float16: 'fp16',
    torch.bfloat16: 'bf16',
    torch.float64: 'fp64',
}
_MAPS = ('x_ptr', 'y_ptr', 'g_ptr', 'dx_ptr')
_BLOCK = 1024


class Launch(NamedTuple):
    """A launch of a kernel.

    Attributes:
        kernel: The kernel.
        grid: The numbers of programs.
        args: Its arguments by name, without the constants.
        constants: What it is compiled for.
        warps: The warps of a program.
    """

    kernel: Any
    grid: tuple[int, ...]
    args: dict[str, Any]
    constants: dict[str, Any]
    warps: int


class Work(NamedTuple):
    """What a call does.

    Attributes:
        launches: The launches of our kernels.
        others: The number of torch's operations that launch one of torch's.
        bytes: What all of them read and write.
    """

    launches: list[Launch]
    others: int
    bytes: int


class _Recorder:
    """Stands for a module of kernels and records their launches."""

    def __init__(self, module: ModuleType, launches: list[Launch]) -> None:
        self._module, self._launches = module, launches

    def __getattr__(self, name: str) -> '_Recorder':
        kernel = getattr(self._module, name)

        class Kernel:
            def __getitem__(_, grid: tuple[int, ...]) -> Callable[..., None]:  # noqa: N805
                def launch(*args: Any, num_warps: int = 4, **constants: Any) -> None:
                    named = dict(zip(kernel.arg_names, args, strict=False))
                    pointers = [name for name in constants if name.endswith('_ptr')]
                    named |= {name: constants.pop(name) for name in pointers}
                    self._launches.append(Launch(kernel, grid, named, constants, num_warps))

                return launch

        return Kernel()


class _Operations(TorchDispatchMode):
    """Counts the operations of torch that read or write memory."""

    def __init__(self) -> None:
        super().__init__()
        self.number = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view and not func.name().startswith(('aten::empty', 'aten::new_empty')):
            tensors = [t for t in (*args, result) if isinstance(t, Tensor)]
            self.number += 1
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return result


@contextmanager
def recorded() -> Iterator[Work]:
    """Record what is done within the context; the work is complete at its end."""
    launches: list[Launch] = []
    work = [Work(launches, 0, 0)]
    plain, norm = triton_kernel.device_code(), triton_norm.device_code()
    with (
        mock.patch.object(triton_kernel, 'device_code', lambda: _Recorder(plain, launches)),
        mock.patch.object(triton_norm, 'device_code', lambda: _Recorder(norm, launches)),
        _Operations() as operations,
    ):
        yield work
    tensors = [t for launch in launches for t in launch.args.values() if isinstance(t, Tensor)]
    bytes_ = operations.bytes + sum(t.numel() * t.element_size() for t in tensors)
    work[0] = Work(launches, operations.number, bytes_)


def compile_launch(launch: Launch, arch: int) -> Any:
    """Compile the kernel of a launch ahead of time, as the launch would."""
    kernel = launch.kernel
    signature, constants, hints = {}, dict(launch.constants), {}
    loose = {p.name for p in kernel.params if p.do_not_specialize_on_alignment}
    for i, name in enumerate(kernel.arg_names):
        value = launch.args.get(name)
        if name in constants:
            signature[name] = 'constexpr'
        elif kernel.params[i].is_constexpr:
            signature[name], constants[name] = 'constexpr', kernel.params[i].default
        elif value is None:
            signature[name], constants[name] = 'constexpr', None
        elif isinstance(value, Tensor):
            signature[name] = f'*{NAMES[value.dtype]}'
            hints[(i,)] = [] if name in loose else [['tt.divisibility', 16]]
        elif isinstance(value, float):
            signature[name] = 'fp32'
        else:
            signature[name] = 'i32' if abs(value) < 2**31 else 'i64'
    source = ASTSource(kernel, signature, constants, hints)
    target = GPUTarget('cuda', arch, 32)
    return triton.compile(source, target=target, options={'num_warps': launch.warps})


def tool(name: str) -> Path:
    """Return the path of one of NVIDIA's tools that triton brings."""
    return Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / name


def machine_code(compiled: Any) -> tuple[dict[str, int], int, int]:
    """Return what a thread uses ({'REG': 32, …}), its instructions and those of its loop."""
    with tempfile.NamedTemporaryFile(suffix='.cubin') as cubin:
        Path(cubin.name).write_bytes(compiled.asm['cubin'])
        code, usage = (
            subprocess.run(
                [tool('cuobjdump'), option, cubin.name], capture_output=True, text=True, check=True
            ).stdout
            for option in ('-sass', '--dump-resource-usage')
        )
    (line,) = re.findall(r'REG:.*', usage)
    used = {name: int(value) for name, value in re.findall(r'(\w+):(\d+)', line)}
    rows = re.findall(r'^\s+/\*([0-9a-f]+)\*/\s+(.*?);', code, re.MULTILINE)
    places = [int(place, 16) for place, text in rows if not text.startswith('NOP')]
    loop = 0
    for place, text in rows:
        jump = re.search(r'\bBRA\b.* `?\(?0x([0-9a-f]+)', text)
        if jump and int(jump[1], 16) < int(place, 16):
            inside = (int(jump[1], 16) <= other <= int(place, 16) for other in places)
            loop = max(loop, sum(inside))
    return used, len(places), loop


def count_instructions(launch: Launch, arch: int) -> tuple[dict[str, int], float, float]:
    """Return what a thread uses and, per element of the map, its instructions and its loop's."""
    used, total, loop = machine_code(compile_launch(launch, arch))
    x = launch.args['x_ptr']
    programs = launch.grid[0] * (launch.grid[1] * launch.grid[2] if len(launch.grid) > 1 else 1)
    tiles = launch.args.get('tiles', 1)
    threads = programs * 32 * launch.warps / x.numel()
    return used, (total + (tiles - 1) * loop) * threads, loop * tiles * threads


@triton.jit(do_not_specialize=['size'])
def silu_forward(x_ptr, y_ptr, size, block: tl.constexpr):
    """Write SiLU."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    size = size // 8 * 8
    x = tl.load(x_ptr + at, at < size, 0.0).to(tl.float32)
    tl.store(y_ptr + at, (x / (1 + tl.exp(-x))).to(y_ptr.dtype.element_ty), at < size)


@triton.jit(do_not_specialize=['size'])
def silu_backward(g_ptr, x_ptr, dx_ptr, size, block: tl.constexpr):
    """Write its gradient."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    size = size // 8 * 8
    x = tl.load(x_ptr + at, at < size, 0.0).to(tl.float32)
    g = tl.load(g_ptr + at, at < size, 0.0).to(tl.float32)
    s = 1 / (1 + tl.exp(-x))
    tl.store(dx_ptr + at, (g * s * (1 + x * (1 - s))).to(dx_ptr.dtype.element_ty), at < size)


def silu(x: Tensor) -> tuple[Work, Work]:
    """Return the work of SiLU's formula, forward and backward."""
    grid, constants = (triton.cdiv(x.numel(), _BLOCK),), {'block': _BLOCK}
    size = x.numel() * x.element_size()
    forward = dict(x_ptr=x, y_ptr=x, size=x.numel())
    backward = dict(g_ptr=x, x_ptr=x, dx_ptr=x, size=x.numel())
    return (
        Work([Launch(silu_forward, grid, forward, constants, 4)], 0, 2 * size),
        Work([Launch(silu_backward, grid, backward, constants, 4)], 0, 3 * size),
    )


def acon(x: Tensor, *params: Tensor | float) -> tuple[Work, Work]:
    """Return the work of ACON with some parameters, forward and backward."""
    with recorded() as forward:
        triton_kernel.forward(x, *params)
    with recorded() as backward:
        triton_kernel.backward(x, x, *params)
    return forward[0], backward[0]


def pixel_wise(x: Tensor) -> tuple[Work, Work]:
    """Return the work of pixel-wise Meta-ACON, forward and backward."""
    p = torch.empty(x.size(1), dtype=torch.float32, device=x.device)
    with recorded() as forward:
        triton_kernel.forward(x, p, p, None)
    with recorded() as backward:
        triton_kernel.backward(x, x, p, p, None)
    return forward[0], backward[0]


def maximum(x: Tensor) -> tuple[Work, Work]:
    """Return the work of the smooth maximum of two maps, by which ACON-FReLU activates."""
    with recorded() as forward:
        triton_kernel.maximum_forward(x, x)
    with recorded() as backward:
        triton_kernel.maximum_backward(x, x, x)
    return forward[0], backward[0]


def norm_and(kind: str, x: Tensor, batch: bool = True) -> tuple[Work, Work]:
    """Return the work of a batch norm and an activation, forward and backward.

    Args:
        kind: ``'relu'``, ``'acon'``, ``'channel_wise'`` or ``'layer_wise'``.
        x: The map.
        batch: Whether the norms take the statistics of the batch.
    """
    channels = x.size(1)
    hidden = max(16, channels // 16)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32

    def new(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=wide, device=x.device)

    norm = Norm(*(new(channels) for _ in range(4)), 0.1, 1e-5, batch)
    params = tuple(new(channels) for _ in range({'relu': 0, 'acon': 3}.get(kind, 2)))
    layers = ()
    if kind == 'channel_wise':
        layers = tuple(
            NormedLayer(new(o, i), *(new(o) for _ in range(5)), 0.1, 1e-5)
            for i, o in ((channels, hidden), (hidden, channels))
        )
    act = Activation(kind, params, layers, batch)
    with recorded() as forward:
        _, *kept = triton_norm.norm_act_forward(x, norm, act)
    args = [x, *norm[:2], *params, *(t for layer in layers for t in layer[:4])]
    with recorded() as backward:
        triton_norm.norm_act_backward(x, args, kept, norm, act, True)
    return forward[0], backward[0]


def _activations(x: Tensor) -> Iterator[tuple[str, tuple[Work, Work]]]:
    p = torch.empty(x.size(1), dtype=torch.float32, device='meta')
    yield 'SiLU', silu(x)
    yield 'ACON-A', acon(x, 1.0, 0.0, p)
    yield 'ACON-B', acon(x, 1.0, p, p)
    yield 'ACON-C', acon(x, p, p, p)
    yield 'ACON, beta per sample', acon(x, p, p, p.expand(x.shape[:2]).contiguous())
    yield 'pixel-wise Meta-ACON', pixel_wise(x)
    yield 'maximum of ACON-FReLU', maximum(x)
    for kind in ('relu', 'acon', 'channel_wise', 'layer_wise'):
        yield f'norm + {kind}', norm_and(kind, x)
    yield 'norm (eval) + acon', norm_and('acon', x, False)
    yield 'norm (eval) + channel_wise', norm_and('channel_wise', x, False)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--arch', type=int, nargs='+', default=[80, 90])
    parser.add_argument('--dtype', nargs='+', default=['bfloat16', 'float32'])
    parser.add_argument('--shape', type=int, nargs=4, action='append')
    args = parser.parse_args()
    print(
        '| sm | dtype | shape | activation | direction | launches | bytes / N '
        '| instructions per element | in loops | registers | spilled |'
    )
    print('|---|---|---|---|---|---|---|---|---|---|---|')
    for arch in args.arch:
        for dtype in args.dtype:
            for shape in args.shape or SHAPES:
                x = torch.empty(tuple(shape), dtype=getattr(torch, dtype), device='meta')
                for name, works in _activations(x):
                    for direction, work in zip(('forward', 'backward'), works, strict=True):
                        _print_row(
                            f'{arch} | {dtype} | {shape} | {name} | {direction}', work, x, arch
                        )


def _print_row(head: str, work: Work, x: Tensor, arch: int) -> None:
    registers = spilled = 0
    total = loops = 0.0
    for launch in work.launches:
        if 'x_ptr' in launch.args:
            used, of_all, of_loop = count_instructions(launch, arch)
            total, loops = total + of_all, loops + of_loop
        else:
            used, *_ = machine_code(compile_launch(launch, arch))
        registers = max(registers, used['REG'])
        spilled = max(spilled, used['STACK'] + used['LOCAL'])
    launches = len(work.launches) + work.others
    of_map = work.bytes / (x.numel() * x.element_size())
    print(
        f'| {head} | {launches} | {of_map:.2f} | {total:.1f} | {loops:.1f} '
        f'| {registers} | {spilled} |',
        flush=True,
    )


if __name__ == '__main__':
    main()
