"""The table of networks says what the script finds."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'tools/analysis_tools/survey_networks.py'
# Shared activations, gates, channels last, a loop over widths, a neck and a head.
QUICK = (
    'mmdet.ResNet',
    'mmpretrain.MobileNetV3',
    'mmpretrain.ShuffleNetV1',
    'mmseg.MixVisionTransformer',
    'mmseg.BiSeNetV2',
    'mmdet.YOLOXHead',
    'mmdet.CSPNeXtPAFPN',
    'mmseg.UPerHead',
)


@pytest.fixture(scope='module')
def script():
    spec = importlib.util.spec_from_file_location('survey_networks', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def table(script):
    return script.read_table((ROOT / 'docs/networks.md').read_text(encoding='utf-8'))


def test_the_table_has_every_registered_network_and_most_pass(script, table):
    assert [result.name for result in table] == [name for name, _ in script.networks()]
    passed = sum(result.reason is None for result in table)
    assert passed >= 0.85 * len(table)
    assert script.table(table) in (ROOT / 'docs/networks.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('name', QUICK)
def test_a_network_does_what_the_table_says(script, table, name):
    arguments = dict(script.networks())[name]
    assert script.survey(name, arguments) in table
