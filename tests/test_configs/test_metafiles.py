"""The metafiles name every config, and what they say of it is counted and printed."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.hub import get_config

from acon_mm.analysis.complexity import count_config
from acon_mm.analysis.table_format import fill_tables

ROOT = Path(__file__).parents[2]
METAFILES = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
MODELS = {
    model['Name']: model
    for path in METAFILES
    for model in yaml.safe_load((ROOT / path).read_text())['Models']
}
CLASSIFIERS = [n for n, m in MODELS.items() if m['Config'].startswith('configs/classification')]
QUICK = (
    'mobilenetv1_0.25_relu',
    'mobilenetv2_0.17_metaacon',
    'resnet18_relu',
    'shufflenetv2_0.5x_aconc',
    'tfnet_0.5',
)
READMES = {
    'README.md': '9,10',
    'configs/classification/README.md': '2,3,4,5,6,7,8',
    'configs/detection/README.md': '9',
    'configs/segmentation/README.md': '10',
}


def test_every_config_is_in_a_metafile_under_its_own_name():
    files = [p for p in ROOT.glob('configs/[!_]*/*.py') if not p.stem.endswith('_digits')]
    assert sorted(MODELS) == sorted(path.stem for path in files)
    for name, model in MODELS.items():
        assert Path(model['Config']).stem == name


def test_mmengine_finds_a_config_by_the_name_of_the_package():
    cfg = get_config('acon_mm::classification/shufflenetv2_0.5x_metaacon.py')
    assert cfg.model.backbone.act_cfg.reduction == 8


@pytest.mark.parametrize(
    'name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CLASSIFIERS]
)
def test_parameters_and_flops_are_those_of_the_network(name):
    metadata = MODELS[name]['Metadata']
    counted = count_config(ROOT / MODELS[name]['Config'])
    assert (metadata['Parameters'], metadata['FLOPs']) == (counted.params, counted.flops)


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_the_comment_of_a_config_names_its_tables_and_errors(name):
    reported = MODELS[name]['Metadata'].get('Reported')
    comment = (ROOT / MODELS[name]['Config']).read_text().splitlines()[0]
    if reported is None:
        assert 'Results' not in MODELS[name]
        assert 'Table' not in comment
        return
    errors = {table: figures['Top 1 Error'] for table, figures in reported.items()}
    numbers = {word.strip(':,;') for word in comment.split()}
    for table, error in errors.items():
        assert {table.split()[-1], str(error)} <= numbers
    accuracy = MODELS[name]['Results'][0]['Metrics']['Top 1 Accuracy']
    assert accuracy == pytest.approx(100 - next(iter(errors.values())))


def test_the_released_weights_are_named_as_the_authors_name_them():
    released = {
        n: m['Converted From']['Weights'] for n, m in MODELS.items() if 'Converted From' in m
    }
    assert released['resnet101_aconc'] == 'res101.acon.pth'
    assert released['resnet50_metaacon'] == 'res50.metaacon.pth'
    assert released['shufflenetv2_1.5x_metaacon'] == 'shufflenetv2.1.5.metaacon.pth'
    assert released['tfnet_2.0'] == 'tfnet.2.0.pth'
    assert len(released) == len(set(released.values())) == 14


@pytest.mark.parametrize(('readme', 'numbers'), READMES.items())
def test_the_tables_of_a_readme_are_the_output_of_the_tool(readme, numbers):
    """After a change: tools/analysis_tools/paper_tables.py --update README."""
    text = (ROOT / readme).read_text()
    blocks = re.findall(
        r'<!-- tables ([\d,]+) -->\n(.*?)<!-- end of tables \1 -->', text, re.DOTALL
    )
    assert [found for found, _ in blocks] == [numbers]
    assert re.findall(r'\*\*Table (\d+):', blocks[0][1]) == numbers.split(',')
    assert text == fill_tables(text, Path(readme).parent.as_posix())


def test_every_readme_with_results_is_kept_by_the_tool():
    found = [ROOT / 'README.md', *ROOT.glob('configs/*/README.md')]
    assert {path.relative_to(ROOT).as_posix() for path in found} == set(READMES)


def test_the_readme_has_the_command_that_trains_each_config_on_eight_gpus():
    folder = ROOT / 'configs' / 'classification'
    lines = (folder / 'README.md').read_text().splitlines()
    for path in folder.glob('*.py'):
        command = f'tools/dist_train.sh configs/classification/{path.name} 8'
        assert lines.count(command) == 1
