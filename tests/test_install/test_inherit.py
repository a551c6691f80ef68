"""A project in another folder builds on the configs of acon_mm, however acon_mm is installed."""

import json
import sys
from pathlib import Path

import pytest

BASES = {
    'announced': "'acon_mm::detection/retinanet_r50_metaacon.py'",
    'by_path': "__import__('acon_mm').config_path('detection/retinanet_r50_metaacon.py')",
}

PROBE = """
import json
import sys

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

assert 'acon_mm' not in sys.modules
cfgs = [Config.fromfile('by_path.py')]
import acon_mm

cfgs.append(Config.fromfile('announced.py'))
init_default_scope(cfgs[0].default_scope)
found = []
for cfg in cfgs:
    cfg.model.backbone.init_cfg = None  # no checkpoint here
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        scores, boxes = model(torch.rand(1, 3, 64, 64), mode='tensor')
    found.append(dict(
        package=acon_mm.__file__,
        scores=[list(level.shape) for level in scores],
        activations=sum(type(m).__name__ == 'MetaAcon' for m in model.modules()),
    ))
print(json.dumps(found))
"""


@pytest.fixture(params=['editable', 'wheel'])
def install(request):
    """The Python of an install, and the folder that its acon_mm has to come from."""
    if request.param == 'editable':
        return Path(sys.executable), request.getfixturevalue('repo_root')
    python = request.getfixturevalue('wheel_python')
    return python, python.parents[1]


def test_project_inherits_builds_and_runs(install, run, tmp_path):
    python, home = install
    for way, base in BASES.items():
        (tmp_path / f'{way}.py').write_text(
            f'_base_ = [{base}]\nmodel = dict(bbox_head=dict(num_classes=3))\n'
        )
    (tmp_path / 'probe.py').write_text(PROBE)
    for found in json.loads(run(python, 'probe.py', cwd=tmp_path).splitlines()[-1]):
        assert Path(found['package']).resolve().is_relative_to(home)
        # 9 anchors × 3 classes of the project, on the five levels of the inherited neck.
        assert found['scores'] == [[1, 27, size, size] for size in (8, 4, 2, 1, 1)]
        assert found['activations'] == 16  # one in each bottleneck of the inherited backbone
