"""The tables of a grid say what its tests measured, and compare rows by their seeds."""

import json
import sys
from pathlib import Path

import pytest
from scipy import stats

from acon_mm.analysis.transfer_grid import run_grid
from acon_mm.analysis.transfer_plan import DETECTION, PRESETS, SEGMENTATION
from acon_mm.analysis.transfer_report import format_report, transfer_rows
from acon_mm.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from transfer_fake import FakeExecute, plan

# By how much the mIoU of an activation and a seed is above the stand-in's 62.5.
ABOVE = {
    ('relu', 'seed0'): -1.0,
    ('relu', 'seed1'): 0.0,
    ('relu', 'seed2'): 1.0,
    ('metaacon', 'seed0'): 1.0,
    ('metaacon', 'seed1'): 2.25,
    ('metaacon', 'seed2'): 2.75,
}
# The same for the box AP, as a fraction.
DETECTED = {
    ('metaacon', 'seed0'): 0.01,
    ('metaacon', 'seed1'): -0.005,
    ('metaacon', 'seed2'): 0.007,
}
SEEDS = (0, 1, 2)


def change(folder):
    above = {'segmentation_test': ABOVE, 'detection_test': DETECTED}.get(folder.name, {})
    return above.get(folder.parts[-3:-1], 0)


@pytest.fixture
def chains(tmp_path):
    found = plan(tmp_path, seeds=SEEDS)
    execute = FakeExecute(change=change)
    run_grid(PRESETS['digits'], found, tmp_path, tmp_path, execute=execute, say=lambda line: None)
    return found


def table(text, title):
    """Return the cells of the table below a title."""
    lines = text.partition(f'{title}\n\n')[2].partition('\n\n')[0].splitlines()
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


def test_a_row_shows_mean_deviation_difference_and_interval_of_its_seeds(chains):
    header, _, relu, meta = table(format_report(chains), 'Table 10 in small: the segmentor')
    assert header[:4] == ['mIoU', 'seed 0', 'seed 1', 'seed 2']
    assert header[4:] == ['mean ± sd', '− ReLU', '95 % interval']
    assert relu == ['ReLU', '61.50', '62.50', '63.50', '62.50 ± 1.00', '–', '–']
    expected = stats.ttest_1samp([2.0, 2.25, 1.75], 0).confidence_interval(0.95)
    interval = f'{expected.low:+.2f} to {expected.high:+.2f}*'
    assert meta[4:] == ['64.50 ± 0.90', '+2.00', interval]


def test_an_interval_with_0_inside_has_no_star(chains):
    meta = table(format_report(chains), 'Table 9 in small: the detector')[3]
    expected = stats.ttest_1samp([1.0, -0.5, 0.7], 0).confidence_interval(0.95)
    assert meta[5:7] == ['+0.40', f'{expected.low:+.2f} to {expected.high:+.2f}']


def test_the_detectors_table_has_the_papers_three_metrics(chains):
    header, _, relu, _ = table(format_report(chains), 'Table 9 in small: the detector')
    assert (header[0], *header[-2:]) == ('box AP', 'box AP@50', 'box AP@75')
    assert (relu[1], *relu[-2:]) == ('50.00', '75.00 ± 0.00', '62.50 ± 0.00')


def test_any_row_can_be_the_baseline(chains):
    title = 'Table 10 in small: the segmentor'
    _, _, relu, meta = table(format_report(chains, ['metaacon']), title)
    assert (relu[5], meta[5]) == ('-2.00', '–')
    with pytest.raises(UserError, match="baseline 'mish' is none of the rows; use some of relu"):
        transfer_rows(DETECTION, chains, ['relu', 'mish'])


def test_rows_can_be_compared_with_several(chains):
    text = format_report(chains, ['relu', 'metaacon'])
    header, _, relu, meta = table(text, 'Table 10 in small: the segmentor')
    assert header[5:] == ['− ReLU', '95 % interval', '− Meta-ACON', '95 % interval']
    assert (relu[5], relu[7], meta[5], meta[7]) == ('–', '-2.00', '+2.00', '–')


def test_an_unfinished_grid_compares_the_seeds_that_both_rows_have(tmp_path):
    found = plan(tmp_path, seeds=SEEDS)
    with pytest.raises(KeyboardInterrupt):
        # Two chains, then ReLU's of the second seed and a part of Meta-ACON's.
        run_grid(
            PRESETS['digits'],
            found,
            tmp_path,
            tmp_path,
            execute=FakeExecute({1 + 3 * 6 + 3: KeyboardInterrupt()}, change),
            say=lambda line: None,
        )
    relu, meta = transfer_rows(SEGMENTATION, found)
    assert (len(relu.metrics['mIoU']), len(meta.metrics['mIoU'])) == (2, 1)
    assert (meta.differences['relu'].mean, meta.differences['relu'].pairs) == (2.0, 1)
    text = format_report(found)
    meta = table(text, 'Table 10 in small: the segmentor')[3]
    assert meta == ['Meta-ACON', '63.50', '–', '63.50', '+2.00', '–']
    assert '20 of 36 steps are finished' in text


def test_nothing_finished_gives_a_table_of_dashes(tmp_path):
    text = format_report(plan(tmp_path))
    assert table(text, 'Table 9 in small: the detector')[2][1:] == ['–'] * 5
    assert text.endswith('0 of 24 steps are finished.')


def test_the_footnote_tells_commits_and_resumes(tmp_path):
    found = plan(tmp_path, ['relu'], [0])
    stopping = FakeExecute({2: KeyboardInterrupt()}, change)
    for execute in (stopping, FakeExecute(change=change)):
        try:
            run_grid(
                PRESETS['digits'],
                found,
                tmp_path,
                tmp_path,
                execute=execute,
                say=lambda line: None,
            )
        except KeyboardInterrupt:
            continue
    result = found[0].folder / 'pretrain' / 'result.json'
    result.write_text(json.dumps(json.loads(result.read_text()) | {'commit': 'abc123'}))
    text = format_report(found)
    assert 'took before a resume. Commits: unknown (5 steps), abc123 (1 step).' in text


def test_json_holds_the_same_figures(chains):
    rows = json.loads(format_report(chains, kind='json'))[SEGMENTATION]
    assert [row['variant'] for row in rows] == ['relu', 'metaacon']
    assert rows[1]['metrics']['mIoU'] == {'0': 63.5, '1': 64.75, '2': 65.25}
    assert rows[1]['differences']['relu']['mean'] == 2.0
    with pytest.raises(UserError, match="kind='yaml' is unknown"):
        format_report(chains, kind='yaml')
