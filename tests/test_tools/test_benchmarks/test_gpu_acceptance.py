import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[3] / 'tools' / 'benchmarks' / 'gpu_acceptance.sh'


@pytest.mark.slow
@pytest.mark.skipif(find_spec('triton') is None, reason='triton is not installed')
def test_the_acceptance_runs_every_part_where_only_torch_and_triton_are(tmp_path):
    """By Triton's interpreter, and with OpenMMLab's libraries and tabulate out of reach."""
    hide = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('mmcv', 'mmengine', 'mmpretrain', 'mmdet', 'tabulate'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""
    (tmp_path / 'sitecustomize.py').write_text(hide, encoding='utf-8')
    report = tmp_path / 'report.md'
    env = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(tmp_path)}
    done = subprocess.run(
        [COMMAND, '--device', 'cpu', '--only', 'autocast', '--out', report],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = report.read_text(encoding='utf-8')
    assert 'cpu: Triton kernels' in text
    assert '| autocast changes the dtype of the map alone | holds |' in text
    for row in ('| norm + meta_acon |', '| norm, published |', '| silu |'):
        assert text.count(row) == 2
    assert 'Left out: ModuleNotFoundError' in text


@pytest.mark.skipif(find_spec('triton') is None, reason='triton is not installed')
def test_the_acceptance_asks_for_a_gpu():
    env = {**os.environ, 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run([COMMAND], env=env, capture_output=True, text=True)
    assert done.returncode == 2 and 'torch sees no GPU' in done.stderr
