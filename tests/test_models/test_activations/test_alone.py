"""Where torch is alone, the activations are plain modules and the rest says what is missing."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from acon_mm._stack import has_openmmlab
from acon_mm.models.activations import norm
from acon_mm.registry import TorchModels

BLOCKED = """
import sys

class NothingElse:
    others = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'packaging', 'yaml')

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition('.')[0] in cls.others:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, NothingElse)
sys.modules['mmengine'] = None  # where find_spec looks first
"""
WORKS = """
import acon_mm
import torch
from acon_mm.ops import acon
from acon_mm.models import build_activation
from acon_mm.models.activations import AconA, AconB, AconC, AconFReLU, MetaAcon

norm_cfg = dict(type='BN', momentum=0.01, requires_grad=False)
for act in (
    *(cls(32) for cls in (AconA, AconB, AconC, AconFReLU, MetaAcon)),
    build_activation(dict(type='acon_mm.MetaAcon'), 32, norm_cfg),
    build_activation(dict(type='SiLU'), 32),
):
    x = torch.randn(2, 32, 4, 4, requires_grad=True)
    act(x * 1).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None for p in act.parameters() if p.requires_grad)
assert not any(sys.modules.get(name) for name in NothingElse.others)
"""
NEEDS_MORE = (
    'import acon_mm.models.backbones',
    'from acon_mm.models import AconResNet',
    'import acon_mm.models.heads',
    'import acon_mm.apis',
)
TRY = """
try:
    {}
except ImportError as error:
    print(error)
"""


def test_the_activations_train_and_what_needs_more_says_so_in_one_line():
    code = BLOCKED + WORKS + ''.join(map(TRY.format, NEEDS_MORE))
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, '')  # importing says nothing
    lines = ran.stdout.splitlines()
    assert len(lines) == len(NEEDS_MORE)
    assert all(' needs mm' in line and 'not installed' in line for line in lines)


@pytest.mark.skipif(not has_openmmlab(), reason='compares with mmcv')
@pytest.mark.parametrize(
    'norm_cfg',
    [
        dict(type='BN'),
        dict(type='BN', eps=1e-3, momentum=0.01, requires_grad=False),
        dict(type='SyncBN', affine=False),
        dict(type='GN', num_groups=4),
        dict(type='IN'),
        dict(type=nn.BatchNorm2d),
    ],
)
def test_a_norm_of_torch_is_the_one_that_mmcv_builds(monkeypatch, norm_cfg):
    of_mmcv = norm.build_norm(norm_cfg, 8)
    monkeypatch.setattr(norm, 'has_openmmlab', lambda: False)
    monkeypatch.setattr(norm, 'MODELS', TorchModels())
    of_torch = norm.build_norm(norm_cfg, 8)
    assert isinstance(of_mmcv, type(of_torch))
    assert repr(of_torch) == repr(of_mmcv)
    for ours, theirs in zip(of_torch.parameters(), of_mmcv.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.requires_grad == theirs.requires_grad
    with pytest.raises(KeyError):
        norm.build_norm(dict(type='BatchNorm9'), 8)
