"""``python -m mim`` finds the configs and the scripts of acon_mm, from any folder."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = 'retinanet_r50_metaacon.py'


@pytest.fixture(params=['editable', 'wheel'])
def python(request):
    """The Python of an environment with mim and an install of acon_mm."""
    if request.param == 'editable':
        return Path(sys.executable)
    return request.getfixturevalue('wheel_python')


@pytest.mark.parametrize(
    ('script', 'arguments', 'answer'),
    [
        ('train', [], 'error: train_dataloader.dataset.ann_file points to'),
        ('test', ['--checkpoint', 'none.pth'], "error: checkpoint 'none.pth' does not exist"),
    ],
    ids=['train', 'test'],
)
def test_mim_runs_our_script_on_our_config(python, script, arguments, answer, tmp_path):
    # There is no data and no checkpoint here: the sentence that says so is our script's own.
    command = [python, '-m', 'mim', script, 'acon_mm', CONFIG, *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode != 0
    assert f'.mim/tools/{script}.py' in result.stdout
    assert f'configs/detection/{CONFIG}' in result.stdout
    assert answer in result.stderr
