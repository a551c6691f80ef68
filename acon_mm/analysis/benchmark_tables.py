"""The tables of the benchmarks, in Markdown."""

from collections.abc import Iterable, Sequence

from .benchmark_activation import PHASES, CaseResult
from .benchmark_blocks import BlockResult
from .benchmark_report import mebibytes, milliseconds, significant, times
from .benchmark_rows import NETWORK_ROWS, ROWS
from .benchmark_train_step import NetworkResult
from .markdown import NONE, markdown_table

LAYOUT_NAMES = {'nchw': 'NCHW', 'channels_last': 'channels_last'}
DTYPE_NAMES = {'fp32': 'float32', 'bf16': 'bfloat16 (autocast)'}
SUMMED_UP = {'both': 'Forward and backward', 'inference': 'Forward under `no_grad`'}

# What is smaller than this share of all that a block keeps is summed up in one line.
SMALL_SHARE = 0.01


def case_table(result: CaseResult) -> str:
    """Write everything that was measured on one feature map: a head, a table, the failures."""
    case = result.case
    head = (
        f'**{_shape(case.shape)}, {DTYPE_NAMES[case.dtype]}, {LAYOUT_NAMES[case.layout]}**: '
        f'N = {mebibytes(case.nbytes)} MiB, {result.copy.count} rounds, a copy takes '
        f'{milliseconds(result.copy)} ms and makes {_gigabytes(result.copy_bandwidth())} GB/s'
    )
    rated = ('inference', 'backward')
    header = ['Activation', *(f'{phase}, ms' for phase in PHASES), 'kept, N']
    header += [f'{phase}, GB/s' for phase in rated]
    lines = []
    for row, phases in result.times.items():
        cells = [f'{milliseconds(phases[p])} {times(result.ratio(row, p))}' for p in PHASES]
        rates = [_gigabytes(result.bandwidth(row, phase)) for phase in rated]
        lines.append([ROWS[row].label, *cells, f'{result.kept_maps(row):.2f}', *rates])
    failures = [f'- {ROWS[row].label} did not run: {why}' for row, why in result.failures.items()]
    parts = [head, '', markdown_table(header, lines), *([''] if failures else []), *failures]
    return '\n'.join(parts)


def summary_tables(results: Sequence[CaseResult]) -> str:
    """Write the ratios to SiLU and what is kept, the feature maps in columns.

    Args:
        results: What was measured, on the same shapes for each dtype and layout.

    Returns:
        A table for each of :data:`SUMMED_UP` and each dtype, and one of what is kept.
    """
    parts = []
    dtypes = dict.fromkeys(result.case.dtype for result in results)
    for phase, title in SUMMED_UP.items():
        for dtype in dtypes:
            part = [result for result in results if result.case.dtype == dtype]
            layouts = dict.fromkeys(LAYOUT_NAMES[result.case.layout] for result in part)
            head = f'**{title}, {DTYPE_NAMES[dtype]}**: times SiLU, {" / ".join(layouts)}'
            parts.append(f'{head}\n\n{_ratio_table(part, phase)}')
    head = '**Kept for the backward pass**: times the bytes of the map, the most of all maps'
    lines = [
        [ROWS[row].label, *(_most_kept(results, row, dtype) for dtype in dtypes)]
        for row in _rows(results)
    ]
    table = markdown_table(['Activation', *(DTYPE_NAMES[dtype] for dtype in dtypes)], lines)
    parts.append(f'{head}\n\n{table}')
    return '\n\n'.join(parts)


def _ratio_table(results: Sequence[CaseResult], phase: str) -> str:
    shapes = list(dict.fromkeys(result.case.shape for result in results))
    lines = []
    for row in _rows(results):
        cells = [
            ' / '.join(times(r.ratio(row, phase)) for r in results if r.case.shape == shape)
            for shape in shapes
        ]
        lines.append([ROWS[row].label, *cells])
    return markdown_table(['Activation', *map(_shape, shapes)], lines)


def _rows(results: Iterable[CaseResult]) -> list[str]:
    ran = {row for result in results for row in result.times}
    return [row for row in ROWS if row in ran]


def _most_kept(results: Iterable[CaseResult], row: str, dtype: str) -> str:
    kept = [r.kept_maps(row) for r in results if row in r.kept and r.case.dtype == dtype]
    return f'{max(kept):.2f}' if kept else NONE


def network_table(result: NetworkResult) -> str:
    """Write what was measured in one network: a head and a table."""
    network = result.network
    rounds = max(s.count for phases in result.times.values() for s in phases.values())
    head = (
        f'**{network.label}**, {network.batch_size} images of {network.image_size}² a step, '
        f'{rounds} rounds'
    )
    header = ['Activation', 'step, ms', 'kept, MiB', 'peak, MiB', 'one image, ms']
    lines = []
    for row, phases in result.times.items():
        step, latency = (
            f'{milliseconds(phases[phase])} {times(result.ratio(row, phase))}'
            for phase in ('step', 'latency')
        )
        kept, peak = mebibytes(result.kept[row]), mebibytes(result.peak[row])
        lines.append([NETWORK_ROWS[row].label, step, kept, peak, latency])
    return f'{head}\n\n{markdown_table(header, lines)}'


def block_table(result: BlockResult) -> str:
    """Write what one block keeps, tensor by tensor, small ones in one line."""
    head = (
        f'**{result.kind} of {result.network.label}, {NETWORK_ROWS[result.row].label}**: '
        f'{mebibytes(result.nbytes)} MiB for an input of {_shape(result.shape)}'
    )
    small = [kept for kept in result.kept if kept.nbytes < SMALL_SHARE * result.nbytes]
    lines = []
    for kept in result.kept:
        if kept not in small:
            savers = ', '.join(saver or 'the block itself' for saver in kept.savers)
            origin = ' (the input of the block)' if kept is result.given else ''
            lines.append([savers + origin, _shape(kept.shape), mebibytes(kept.nbytes)])
    if small:
        total = sum(kept.nbytes for kept in small)
        lines.append([f'{len(small)} small tensors', '', mebibytes(total)])
    return f'{head}\n\n{markdown_table(["Saved by", "Shape", "MiB"], lines)}'


def block_summary(results: Sequence[BlockResult]) -> str:
    """Write what the blocks keep in all, the blocks in columns."""
    blocks = dict.fromkeys((r.kind, r.network.label, r.shape) for r in results)
    totals = {(r.network.label, r.row): mebibytes(r.nbytes) for r in results}
    header = ['Kept, MiB', *(f'{kind} of {label}, {_shape(s)}' for kind, label, s in blocks)]
    lines = [
        [NETWORK_ROWS[row].label, *(totals.get((label, row), NONE) for _, label, _ in blocks)]
        for row in dict.fromkeys(result.row for result in results)
    ]
    return markdown_table(header, lines)


def _shape(shape: Sequence[int]) -> str:
    return '×'.join(map(str, shape))


def _gigabytes(rate: float) -> str:
    return significant(rate / 1e9)
