import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from acon_mm.analysis.paper_tables import Row, Table, paper_tables
from acon_mm.analysis.runs import measured_metrics
from acon_mm.analysis.table_format import fill_tables, format_tables
from acon_mm.errors import UserError

NUMBERS = (2, 3, 4, 5, 6, 7, 8, 9, 10)


def paper_table(number, work_dirs=()):
    (table,) = paper_tables([number], work_dirs)
    return table


def row(**changes):
    paper = {'Parameters': '1.4M', 'FLOPs': '41M', 'Top 1 Error': 39.4}
    ours = {'Parameters': 1_400_000, 'FLOPs': 41_000_000}
    return Row('net', 'configs/classification/net.py', paper, ours | changes)


@pytest.mark.parametrize(
    ('changes', 'off'),
    [
        ({'Parameters': 1_500_000, 'FLOPs': 42_230_000}, []),
        ({'Parameters': 1_500_001}, ['Parameters']),
        ({'FLOPs': 42_230_001}, ['FLOPs']),
        ({'FLOPs': 39_700_000}, ['FLOPs']),
    ],
)
def test_a_count_deviates_beyond_a_tenth_of_a_million_or_three_percent(changes, off):
    found = [
        name for name in ('Parameters', 'FLOPs', 'Top 1 Error') if row(**changes).deviates(name)
    ]
    assert found == off


def test_parameters_of_large_networks_may_differ_by_two_percent():
    large = Row('net', '', {'Parameters': '60.0M'}, {'Parameters': 61_200_000})
    assert not large.deviates('Parameters')
    large.ours['Parameters'] += 1
    assert large.deviates('Parameters')


def test_the_tables_have_as_many_rows_as_the_papers():
    counts = {table.number: len(table.rows) for table in paper_tables()}
    # Two, four and three activations of each of 10, 6 and 5 networks in Tables 2, 3 and 6.
    assert counts == {2: 20, 3: 24, 4: 7, 5: 4, 6: 15, 7: 3, 8: 12, 9: 3, 10: 3}


def test_parameters_and_flops_stand_in_every_row_of_tables_2_3_8_and_10():
    for number, metric in (
        (2, 'Top 1 Error'),
        (3, 'Top 1 Error'),
        (8, 'Top 1 Error'),
        (10, 'mIoU'),
    ):
        for line in paper_table(number).rows:
            assert {'Parameters', 'FLOPs', metric} <= set(line.paper)
            assert {'Parameters', 'FLOPs'} <= set(line.ours)


def test_only_mobilenetv2_is_further_from_the_paper_than_its_rounding_and_the_notes_say_why():
    off = {
        (number, line.model, name)
        for number in NUMBERS
        for line in paper_table(number).rows
        for name in ('Parameters', 'FLOPs')
        if line.deviates(name)
    }
    assert off == {
        (2, 'mobilenetv2_1.0_metaacon', 'Parameters'),
        (8, 'mobilenetv2_1.0_relu', 'Parameters'),
        (8, 'mobilenetv2_1.4_relu', 'Parameters'),
    }
    for number, model, _ in off:
        (note,) = [line.note for line in paper_table(number).rows if line.model == model]
        assert note


def test_the_four_rows_on_which_the_sources_disagree_carry_a_note():
    notes = {line.model: line.note for line in paper_table(2).rows}
    for model in (
        'mobilenetv2_1.0_metaacon',
        'shufflenetv2_1.5x_metaacon',
        'resnet101_metaacon',
        'resnet152_metaacon',
    ):
        assert 'Slides' in notes[model]


def test_table_9_takes_its_figures_from_the_detection_metafile():
    table = paper_table(9)
    assert [line.model.split('_')[-1] for line in table.rows] == ['relu', 'swish', 'metaacon']
    assert [line.paper['box AP'] for line in table.rows] == [35.2, 35.8, 36.5]


def test_table_10_has_the_papers_figures_and_counts_the_classifiers_as_table_2_does():
    table = paper_table(10)
    assert [list(line.paper.values()) for line in table.rows] == [
        ['25.5M', '3.9G', 77.2],
        ['25.5M', '3.9G', 77.5],
        ['25.7M', '3.9G', 78.3],
    ]
    counted = {line.model: line.ours for line in (*paper_table(2).rows, *paper_table(3).rows)}
    for line in table.rows:
        assert line.ours == counted[line.model.replace('pspnet_r50', 'resnet50')]
        assert not line.deviates('Parameters')
        assert not line.deviates('FLOPs')
    assert table.note in format_tables([table])


def write_run(folder, stamp, validated=(), tested=None, metric='accuracy/top1'):
    run = folder / stamp
    (run / 'vis_data').mkdir(parents=True)
    lines = [json.dumps({metric: value, 'step': i}) for i, value in enumerate(validated)]
    lines = ['{"lr": 0.1, "loss": 7.0}', *lines, f'{{"{metric[:-1]}']
    (run / 'vis_data' / 'scalars.json').write_text('\n'.join(lines))
    if tested is not None:
        (run / f'{stamp}.json').write_text(json.dumps({metric: tested}))


def measured(work_dir):
    (line,) = [r for r in paper_table(2, [work_dir]).rows if r.model == 'resnet50_metaacon']
    return line.ours.get('Top 1 Error')


def test_the_last_epoch_of_the_latest_run_is_what_was_measured(tmp_path):
    run = tmp_path / 'resnet50_metaacon'
    assert measured(tmp_path) is None
    write_run(run, '20250101_000000', validated=[50, 78, 77.5])
    assert measured(tmp_path) == measured(run) == 22.5
    write_run(run, '20250102_000000', validated=[60], tested=61)
    assert measured(tmp_path) == 39
    write_run(run, '20250103_000000')  # a run that stopped before its first validation
    assert measured(tmp_path) == 39


def write_config(folder, stamp, text):
    (folder / stamp / 'vis_data' / 'config.py').write_text(text)


BY_ITERATION = "model = dict(type='A')\ntrain_cfg = dict(max_iters=40)\nload_from = {!r}\n"


@pytest.mark.parametrize(
    ('config', 'reason'),
    [
        ("model = dict(type='SegTTAModel', module=dict(type='A'))", r'several views \(--tta\)'),
        (BY_ITERATION.format('a/iter_4.pth'), 'at iter 4 of 40'),
        (BY_ITERATION.format('a/best_mIoU_iter_39.pth'), 'at iter 39 of 40'),
        ("train_cfg = dict(max_epochs=12)\nload_from = 'epoch_11.pth'", 'at epoch 11 of 12'),
    ],
)
def test_a_test_that_no_table_reports_leaves_the_one_before_it(tmp_path, config, reason):
    run = tmp_path / 'pspnet_r50_relu'
    write_run(run, '20250101_000000', tested=77.25, metric='mIoU')
    write_config(run, '20250101_000000', BY_ITERATION.format('a/iter_40.pth'))
    write_run(run, '20250102_000000', tested=79.5, metric='mIoU')
    write_config(run, '20250102_000000', config)
    lines = []
    assert measured_metrics('pspnet_r50_relu', [tmp_path], lines.append) == {'mIoU': 77.25}
    (line,) = lines
    assert re.fullmatch(f'.*20250102_000000 is left out: .*{reason}', line)


@pytest.mark.parametrize('loaded', ['pspnet_r50_relu-1a2b3c4d.pth', 'epoch_3.pth', None])
def test_a_checkpoint_whose_name_does_not_count_iterations_is_taken_as_it_is(tmp_path, loaded):
    run = tmp_path / 'pspnet_r50_relu'
    write_run(run, '20250101_000000', tested=77.25, metric='mIoU')
    write_config(run, '20250101_000000', BY_ITERATION.format(loaded))
    assert measured_metrics('pspnet_r50_relu', [tmp_path]) == {'mIoU': 77.25}


@pytest.mark.parametrize(('epochs', 'found'), [(4, {}), (3, {'Top 1 Error': 20})])
def test_a_training_is_measured_at_its_end_alone(tmp_path, epochs, found):
    run = tmp_path / 'resnet50_relu'
    write_run(run, '20250101_000000', validated=[70, 78, 79, 80])  # steps 0 to 3
    write_config(run, '20250101_000000', f'train_cfg = dict(max_epochs={epochs})')
    lines = []
    assert measured_metrics('resnet50_relu', [tmp_path], lines.append) == found
    assert [line.split(': ')[1] for line in lines] == ([] if found else ['it is at epoch 3 of 4'])


def test_runs_that_are_left_out_are_named_once_on_standard_error(tmp_path, monkeypatch, capsys):
    run = tmp_path / 'retinanet_r50_relu'
    write_run(run, '20250101_000000', [0.1], metric='coco/bbox_mAP')
    write_config(run, '20250101_000000', 'train_cfg = dict(max_epochs=12)')
    tool = Path(__file__).parents[2] / 'tools/analysis_tools/paper_tables.py'
    command = [tool, '--tables', '9,10', '--work-dirs', tmp_path]
    monkeypatch.setattr(sys, 'argv', list(map(str, command)))
    runpy.run_path(str(tool), run_name='__main__')
    out, err = capsys.readouterr()
    assert err == f'{run}/20250101_000000 is left out: it is at epoch 0 of 12\n'
    assert 'retinanet_r50_relu' in out


def test_sizes_that_no_object_of_the_data_has_are_not_measured(tmp_path):
    """pycocotools reports an average precision of -1 for them."""
    run = tmp_path / 'retinanet_r50_relu' / '20250101_000000'
    run.mkdir(parents=True)
    logged = {'coco/bbox_mAP': 0.0, 'coco/bbox_mAP_s': 0.25, 'coco/bbox_mAP_l': -1.0}
    (run / f'{run.name}.json').write_text(json.dumps(logged))
    found = measured_metrics('retinanet_r50_relu', [tmp_path])
    assert found == {'box AP': 0, 'box AP small': 25}


def test_a_measured_error_stands_in_a_column_of_its_own(tmp_path):
    write_run(tmp_path / 'senet154_aconc', '20250101_000000', validated=[81])
    text = format_tables([paper_table(7, [tmp_path])])
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:] if line.strip()}
    assert lines['Model'] == ['Top', '1', 'Error', 'ours', 'difference']
    assert lines['senet154_aconc'] == ['18.4', '19.00', '+0.60']
    assert lines['senet154_relu'] == ['18.95', '–', '–']


def test_runs_of_detectors_and_segmentors_stand_beside_the_paper_with_the_difference(tmp_path):
    """A run is known by its folder, or by the config that mmengine leaves in any other folder."""
    write_run(tmp_path / 'retinanet_r50_swish', '20250101_000000', [0.35], metric='coco/bbox_mAP')
    mine = tmp_path / 'mine'
    write_run(mine, '20250101_000000', [50, 76.1], tested=78.9, metric='mIoU')
    (mine / 'pspnet_r50_metaacon.py').write_text('')
    tables = json.loads(format_tables(paper_tables([9, 10], [tmp_path, mine]), 'json'))
    found = {
        (line['model'], name): (line['paper'][name], line['ours'][name], difference)
        for table in tables
        for line in table['rows']
        for name, difference in line['differences'].items()
    }
    assert found == {
        ('retinanet_r50_swish', 'box AP'): (35.8, 35.0, -0.8),
        ('pspnet_r50_metaacon', 'mIoU'): (78.3, 78.9, 0.6),
    }
    text = format_tables([paper_table(10, [mine])])
    (row,) = [line.split() for line in text.splitlines() if line.startswith('pspnet_r50_metaacon')]
    assert row[-3:] == ['78.3', '78.90', '+0.60']


def test_json_holds_every_figure():
    (table,) = json.loads(format_tables([paper_table(8)], 'json'))
    assert table['number'] == 8
    rows = {line['model']: line for line in table['rows']}
    assert rows['tfnet_0.5']['paper'] == {
        'Parameters': '1.3M',
        'FLOPs': '43M',
        'Top 1 Error': 36.6,
    }
    assert rows['mobilenetv2_1.4_relu']['deviates'] == ['Parameters']
    assert rows['mobilenetv2_1.4_relu']['ours']['Parameters'] == 6_108_776


def test_markdown_marks_a_deviation_and_links_the_config():
    line = row(FLOPs=50_000_000)
    line.note = 'Because.'
    table = Table(8, 'Title', [line])
    text = format_tables([table], 'markdown', 'configs/detection')
    cells = next(line for line in text.splitlines() if '[net]' in line).strip('|').split('|')
    expected = ['[net](../classification/net.py)', '1.4M', '1.40M', '41M', '50.0M*', '39.4']
    assert [cell.strip() for cell in cells] == expected
    assert r'- \* net: FLOPs 50.0M against 41M (+22.0%). Because.' in text
    assert '[net](configs/classification/net.py)' in format_tables([table], 'markdown')


def test_unknown_tables_and_work_dirs_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r'tables names 1, .* the tables are 2, 3'):
        paper_table(1)
    with pytest.raises(UserError, match=r'work_dirs names .*, which is not a folder'):
        paper_table(2, [tmp_path / 'none'])


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="kind='x' is unknown; use one of text, markdown, json"):
        format_tables([], 'x')


def test_only_what_stands_between_the_marks_is_written_anew():
    text = 'before\n<!-- tables 7 -->\nold\n<!-- end of tables 7 -->\nafter\n'
    filled = fill_tables(text)
    assert filled.startswith('before\n<!-- tables 7 -->\n')
    assert filled.endswith('<!-- end of tables 7 -->\nafter\n')
    assert 'old' not in filled
    assert '18.95' in filled
    assert fill_tables(filled) == filled
