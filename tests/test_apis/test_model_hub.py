"""mmpretrain and mim find the classifiers, in whatever order the packages are imported."""

import subprocess
import sys

import pytest

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


TAKEN = """
import warnings
from acon_mm import _mim
from mmpretrain.apis import model as hub
warnings.simplefilter('error')
class ModelHub:
    seen = []
    def register_model_index(path, config_prefix):
        ModelHub.seen.append(path)
        if path.name == 'resnet_metafile.yml':
            raise ValueError('The model name resnet18_relu is conflict')
hub.ModelHub = ModelHub
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    _mim.announce_models()
message, = (str(w.message) for w in caught)
assert 'resnet_metafile.yml' in message and 'resnet18_relu is conflict' in message, message
print(*sorted(path.name for path in ModelHub.seen))
"""


def test_a_name_that_is_taken_costs_a_warning_and_the_models_of_one_metafile(tmp_path):
    run = subprocess.run(
        [sys.executable, '-c', TAKEN], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr[-2000:]
    names = run.stdout.split()
    assert 'tfnet_metafile.yml' in names
    assert names[0] < 'resnet_metafile.yml' < names[-1]


def test_mim_finds_a_model_by_its_config(tmp_path):
    command = [sys.executable, '-m', 'mim', 'search', 'acon_mm', '--config', NAME]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    assert f'configs/classification/{NAME}.py' in run.stdout
    assert '65.2' in run.stdout
