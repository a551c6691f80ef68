import pytest
import torch

from acon_mm.analysis.benchmark_activation import PHASES, Case, CaseResult
from acon_mm.analysis.benchmark_blocks import BlockResult
from acon_mm.analysis.benchmark_memory import KeptTensor
from acon_mm.analysis.benchmark_networks import NETWORKS
from acon_mm.analysis.benchmark_report import (
    folded,
    milliseconds,
    significant,
    times,
)
from acon_mm.analysis.benchmark_tables import (
    block_summary,
    block_table,
    case_table,
    network_table,
    summary_tables,
)
from acon_mm.analysis.benchmark_timing import Spread
from acon_mm.analysis.benchmark_train_step import NetworkResult

MIB = 2**20


def spread(seconds, count=9):
    return Spread(seconds / 2, seconds, seconds * 2, count)


def case_result(dtype, layout, shape=(2, 8, 128, 64), **both):
    case = Case(shape, dtype, layout)
    rows = {
        row: {phase: spread(seconds if phase == 'both' else 0.001) for phase in PHASES}
        for row, seconds in both.items()
    }
    kept = {row: (1 if row == 'silu' else 3) * case.nbytes for row in rows}
    return CaseResult(case, rows, spread(0.001), kept, {})


def lines_of(text):
    """Return the cells of the table lines by their first cell."""
    rows = [line.strip('|').split('|') for line in text.splitlines() if line.startswith('|')]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (1234.5, '1234'),
        (123.45, '123'),
        (12.345, '12.3'),
        (1.2345, '1.23'),
        (0.12345, '0.123'),
        (0.01234, '0.0123'),
    ],
)
def test_three_digits_are_written(value, text):
    assert significant(value) == text


def test_times_are_medians_with_their_percentiles_in_milliseconds():
    assert milliseconds(Spread(0.001, 0.002, 0.0125, 5)) == '2.00 (1.00–12.5)'
    assert times(1.254) == '1.25×'
    assert times(None) == '–'


def test_the_table_of_a_case_holds_times_ratios_memory_and_bandwidths():
    result = case_result('fp32', 'nchw', silu=0.004, aconc=0.005)
    result.failures['compiled'] = 'RuntimeError: no compiler'
    text = case_table(result)
    # 2×8×128×64 values of 4 bytes are 2¹⁹, and a copy moves them twice in a millisecond.
    assert text.startswith('**2×8×128×64, float32, NCHW**: N = 0.5 MiB, 9 rounds, a copy takes ')
    assert '1.00 (0.500–2.00) ms and makes 1.05 GB/s' in text
    one = '1.00 (0.500–2.00) 1.00×'
    assert lines_of(text)['ACON-C'] == [
        *(one, one, one, '5.00 (2.50–10.0) 1.25×', '3.00'),
        *('1.05', '1.57'),
    ]
    assert text.endswith('- ACON-C, `torch.compile` did not run: RuntimeError: no compiler')
    result.times.clear()
    assert case_table(result).endswith('did not run: RuntimeError: no compiler')


def test_the_summary_has_a_column_a_map_and_both_layouts_in_a_cell():
    small = (1, 8, 4, 4)
    text = summary_tables(
        [
            case_result('fp32', 'nchw', silu=1.0, aconc=1.5),
            case_result('fp32', 'nchw', small, silu=1.0, aconc=2.5),
            case_result('fp32', 'channels_last', silu=2.0, aconc=2.0),
            case_result('fp32', 'channels_last', small, silu=1.0, aconc=3.0),
            case_result('bf16', 'nchw', silu=1.0),
        ]
    )
    both, half, inference, _, kept = text.split('\n\n**')
    assert 'Forward and backward, float32**: times SiLU, NCHW / channels_last' in both
    assert lines_of(both) | {'---': 0} == {
        'Activation': ['2×8×128×64', '1×8×4×4'],
        **{rule: cells for rule, cells in lines_of(both).items() if rule.startswith('---')},
        'SiLU': ['1.00× / 1.00×', '1.00× / 1.00×'],
        'ACON-C': ['1.50× / 1.00×', '2.50× / 3.00×'],
        '---': 0,
    }
    assert 'bfloat16 (autocast)**: times SiLU, NCHW\n' in half
    assert 'Forward under `no_grad`, float32' in inference
    assert lines_of(kept)['ACON-C'] == ['3.00', '–']


def test_the_table_of_a_network_holds_step_memory_and_latency():
    times_of = {
        'relu': {'step': spread(0.1), 'latency': spread(0.02)},
        'metaacon': {'step': spread(0.12), 'latency': spread(0.03)},
    }
    memory = {'relu': 3 * MIB, 'metaacon': 4 * MIB}
    text = network_table(NetworkResult(NETWORKS['resnet50'], times_of, memory, memory))
    assert text.startswith('**ResNet-50**, 8 images of 224² a step, 9 rounds\n')
    assert lines_of(text)['Meta-ACON'] == [
        '120 (60.0–240) 1.20×',
        '4.0',
        '4.0',
        '30.0 (15.0–60.0) 1.50×',
    ]


def block_result(row, *kept):
    return BlockResult(NETWORKS['resnet50'], row, 'Block', (8, 256, 56, 56), kept, kept[0])


def test_the_table_of_a_block_lists_large_tensors_and_sums_up_small_ones():
    def kept(nbytes, *savers):
        return KeptTensor((2, 3), torch.float32, nbytes, savers, nbytes)

    result = block_result(
        'relu',
        kept(6 * MIB, 'conv1'),
        kept(MIB, 'act1', 'conv2'),
        kept(64, 'bn1'),
        kept(32, 'bn1'),
    )
    text = block_table(result)
    assert '**Block of ResNet-50, ReLU**: 7.0 MiB for an input of 8×256×56×56' in text
    lines = lines_of(text)
    assert lines['conv1 (the input of the block)'] == ['2×3', '6.0']
    assert lines['act1, conv2'] == ['2×3', '1.0']
    assert lines['2 small tensors'] == ['', '0.0']
    summary = block_summary([result, block_result('aconc', kept(9 * MIB, 'conv1'))])
    assert lines_of(summary)['ReLU'] == ['7.0']
    assert lines_of(summary)['ACON-C'] == ['9.0']


def test_folded_parts_stand_in_one_details_block():
    assert folded('Title', ['a', 'b']) == (
        '<details>\n<summary>Title</summary>\n\na\n\nb\n\n</details>'
    )
