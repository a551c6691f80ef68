"""mmpretrain and mim find the classifiers, in whatever order the packages are imported."""

import subprocess
import sys

import pytest
from mmpretrain.apis.model import ModelHub

from acon_mm._mim import announce_models

NAME = 'shufflenetv2_0.5x_metaacon'

AFTER = f"""
import sys
import acon_mm
assert not any(name.startswith(('mmpretrain', 'mmdet', 'mmseg')) for name in sys.modules)
import acon_mm.models
import mmpretrain
assert {NAME!r} in mmpretrain.list_models('shufflenetv2')
assert 'resnet18_8xb32_in1k' in mmpretrain.list_models()
assert 'retinanet_r50_metaacon' not in mmpretrain.list_models()
model = mmpretrain.get_model({NAME!r})
print(type(model.backbone).__name__, model.backbone.layer1[0].branch_main[0].activate)
"""

BEFORE = f"""
import mmpretrain
import acon_mm.models
model = mmpretrain.get_model({NAME!r})
print(type(model.backbone).__name__, model.backbone.layer1[0].branch_main[0].activate)
"""


@pytest.mark.parametrize('code', [AFTER, BEFORE], ids=['after', 'before'])
def test_mmpretrain_builds_our_models_by_name(code, tmp_path):
    run = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.startswith('AconShuffleNetV2 MetaAcon(')


def test_a_name_that_is_taken_costs_a_warning_and_the_models_of_one_metafile(monkeypatch):
    seen = []

    def register_model_index(path, config_prefix):
        seen.append(path.name)
        if path.name == 'resnet_metafile.yml':
            raise ValueError('The model name resnet18_relu is conflict')

    monkeypatch.setattr(ModelHub, 'register_model_index', register_model_index)
    with pytest.warns(
        UserWarning, match='resnet_metafile.yml: .*resnet18_relu is conflict'
    ) as said:
        announce_models()
    assert len(said) == 1
    assert 'tfnet_metafile.yml' in seen
    assert 'resnet_metafile.yml' not in (seen[0], seen[-1])


def test_mim_finds_a_model_by_its_config(tmp_path):
    command = [sys.executable, '-m', 'mim', 'search', 'acon_mm', '--config', NAME]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    assert f'configs/classification/{NAME}.py' in run.stdout
    assert '65.2' in run.stdout
