"""Check and measure the operators on a GPU and write one page to paste into docs/performance.md.

It needs torch and triton alone; whole networks are measured too where OpenMMLab's libraries are.
The exit status is 1 if a property does not hold. ``--device cpu`` is a dry run: everything at tiny
sizes, by Triton's interpreter, without a GPU.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# A stage of MobileNetV2, three of ResNet-50, RetinaNet's first map, and one where calls count.
SHAPES = (
    (64, 24, 112, 112),
    (64, 64, 56, 56),
    (64, 512, 14, 14),
    (64, 2048, 7, 7),
    (2, 64, 400, 672),
    (2, 64, 1, 2),
)
TINY = ((2, 4, 5, 6),)
# Of one device, the reference of each group stands first.
GROUPS = (
    ('silu', 'relu', 'acon', 'meta_acon', 'published'),
    ('norm', 'norm, relu', 'norm + relu', 'norm + acon', 'norm + meta_acon', 'norm, published'),
)
REPEATS = 5
SECONDS_FOR_NETWORKS = 150


def main() -> int:
    """Run all parts, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--out', type=Path, help='a file for the report, besides the output')
    parser.add_argument(
        '--only', default='', help='a part of the names of the properties to check'
    )
    parser.add_argument('--rounds', type=int, help='default: 20, 1 in a dry run')
    args = parser.parse_args()
    if args.device == 'cpu':
        os.environ['TRITON_INTERPRET'] = '1'  # before triton is imported
    find_operators()
    import torch

    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('torch sees no GPU; --device cpu is a dry run without one')
    if args.device == 'cpu':
        from acon_mm.ops import backends

        backends.KERNEL_OF_DEVICE['cpu'] = 'triton'
    start, lines, holds = time.perf_counter(), [], True
    rounds = args.rounds or (20 if args.device == 'cuda' else 1)
    for line in report(args.device, args.only, rounds):
        holds &= 'FAILED' not in line
        lines.append(line)
        print(line, flush=True)
    lines.append(f'\nAll of it took {time.perf_counter() - start:.0f} seconds.')
    print(lines[-1])
    if args.out:
        args.out.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return 0 if holds else 1


def find_operators() -> None:
    """Make ``acon_mm.ops`` importable, without OpenMMLab's libraries where these are missing."""
    sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'test_ops')]
    try:
        import acon_mm  # noqa: F401
    except ImportError:
        bare = types.ModuleType('acon_mm')  # the package without what its own file imports
        bare.__path__ = [str(ROOT / 'acon_mm')]
        sys.modules['acon_mm'] = bare


def report(device: str, only: str, rounds: int) -> Iterator[str]:
    """Yield the lines of the report as they become known."""
    yield '## On a GPU: measured\n' if device == 'cuda' else '## A dry run: no figure is one\n'
    yield '```bash\ntools/benchmarks/gpu_acceptance.sh\n```\n'
    yield describe(device)
    yield '\n| Property | | seconds |\n| --- | --- | ---: |'
    yield from check_properties(device, only)
    yield '\nForward + backward in ms, times the first of its group, and what is saved, in bytes'
    yield 'of the map (N); bfloat16 under autocast. What has a comma is apart from its norm.'
    yield from measure_operators(device, rounds)
    yield from measure_networks(device)


def describe(device: str) -> str:
    """Write what figures depend on."""
    import torch
    import triton

    from acon_mm.ops import backend_report

    machine = platform.machine()
    if device == 'cuda':
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        major, minor = torch.cuda.get_device_capability()
        machine = f'{", ".join(names)}, compute capability {major}.{minor}'
    found = subprocess.run(
        ['git', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True
    )
    return (
        f'- Machine: {machine}, CUDA {torch.version.cuda}\n'
        f'- Versions: torch {torch.__version__}, triton {triton.__version__}, '
        f'acon_mm {found.stdout.strip() or "without git"}\n'
        f'- Operator: {"; ".join(backend_report().splitlines())}'
    )


def check_properties(device: str, only: str) -> Iterator[str]:
    """Yield a row for each property of `tests/test_ops/gpu_properties.py`."""
    from gpu_properties import PROPERTIES, NotHere

    for holds in PROPERTIES:
        if only not in holds.__name__:
            continue
        start = time.perf_counter()
        try:
            holds(device)
            outcome = 'holds'
        except NotHere as reason:
            outcome = f'not checked: {reason}'
        except Exception as error:
            traceback.print_exc()
            outcome = f'**FAILED**: {type(error).__name__} {str(error).splitlines()[:1]}'
        name = holds.__name__.replace('_', ' ')
        yield f'| {name} | {outcome} | {time.perf_counter() - start:.1f} |'


def build(name: str, shape: tuple[int, ...], device: str) -> Callable[[Any], Any]:
    """Return what computes one row, a module in training mode."""
    from gpu_properties import Unit
    from torch import nn

    class Published(nn.Module):
        def __init__(self, with_norm: bool) -> None:
            super().__init__()
            self.unit = Unit('channel_wise', with_norm, shape)

        def forward(self, x: Any) -> Any:
            return self.unit.as_written(x)

    channels = shape[1]
    module: nn.Module = {
        'silu': nn.SiLU,
        'relu': nn.ReLU,
        'acon': lambda: Unit('acon', False, shape),
        'meta_acon': lambda: Unit('channel_wise', False, shape),
        'published': lambda: Published(False),
        'norm': lambda: nn.BatchNorm2d(channels),
        'norm, relu': lambda: nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(True)),
        'norm + relu': lambda: Unit('relu', True, shape),
        'norm + acon': lambda: Unit('acon', True, shape),
        'norm + meta_acon': lambda: Unit('channel_wise', True, shape),
        'norm, published': lambda: Published(True),
    }[name]()
    return module.to(device)


def measure_operators(device: str, rounds: int) -> Iterator[str]:
    """Yield a table for each layout, the activations take turns."""
    import torch

    from acon_mm.analysis.saved_memory import saved_bytes
    from measuring import interleave, seconds_between, stamp

    shapes, repeats = (SHAPES, REPEATS) if device == 'cuda' else (TINY, 1)
    for layout in (torch.contiguous_format, torch.channels_last):
        heads = ['×'.join(map(str, shape)) for shape in shapes]
        yield f'\n| {str(layout)[6:]} | {" | ".join(heads)} | saved, N |'
        yield '| --- |' + ' ---: |' * (len(shapes) + 1)
        cells: dict[str, list[str]] = {}
        for shape in shapes:
            x, g = (
                torch.randn(shape, device=device)
                .to(torch.bfloat16)
                .contiguous(memory_format=layout)
                for _ in range(2)
            )
            x.requires_grad_()
            modules = {n: build(n, shape, device) for names in GROUPS for n in names}

            def call(module: Any, x: Any = x) -> Any:
                with torch.autocast(device, torch.bfloat16):
                    return module(x)

            def task(module: Any, x: Any = x, g: Any = g) -> dict[str, float]:
                start = stamp(device)
                for _ in range(repeats):
                    torch.autograd.grad(call(module), x, g)
                return {'step': seconds_between(start, stamp(device)) / repeats}

            saved = {n: saved_bytes(lambda m=m: call(m), m) / x.nbytes for n, m in modules.items()}
            tasks = {n: lambda m=m: task(m) for n, m in modules.items()}
            medians = interleave(tasks, rounds)
            for names in GROUPS:
                first = medians[names[0]]['step']
                for name in names:
                    taken = medians[name]['step']
                    row = cells.setdefault(name, [])
                    row.append(f'{1e3 * taken:.3f} {taken / first:.2f}×')
                    if shape is shapes[-1]:
                        row.append(f'{saved[name]:.2f}')
        for name, row in cells.items():
            yield f'| {name} | {" | ".join(row)} |'


def measure_networks(device: str) -> Iterator[str]:
    """Yield what `train_step.py` prints, or why it cannot run."""
    command = [sys.executable, str(ROOT / 'tools' / 'benchmarks' / 'train_step.py')]
    command += ['--device', device, '--activations', 'relu_apart', 'silu', 'aconc', 'metaacon']
    if device == 'cuda':
        command += ['--rounds', '10']
    else:
        command += ['--rounds', '1', '--batch-size', '2', '--networks', 'shufflenetv2_0.5x_relu']
    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    env.pop('TRITON_INTERPRET', None)
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=SECONDS_FOR_NETWORKS
        )
        failed = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        text = done.stdout
    except subprocess.TimeoutExpired as error:
        text, failed = error.stdout or '', [f'more than {SECONDS_FOR_NETWORKS} seconds']
        text = text.decode() if isinstance(text, bytes) else text
    yield '\nTraining steps of networks:\n'
    yield from text.splitlines()
    yield from (f'Left out: {line}' for line in failed)


if __name__ == '__main__':
    sys.exit(main())
