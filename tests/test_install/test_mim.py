"""``python -m mim`` finds the configs and the scripts of acon_mm, from any folder."""

import subprocess
import sys

import pytest

CONFIG = 'retinanet_r50_metaacon.py'


@pytest.mark.parametrize(
    ('install', 'script', 'arguments', 'answer'),
    [
        ('editable', 'train', [], 'error: train_dataloader.dataset.ann_file points to'),
        ('wheel', 'test', ['--checkpoint', 'none.pth'], "error: checkpoint 'none.pth' does not"),
    ],
    ids=['editable', 'wheel'],
)
def test_mim_runs_our_script_on_our_config(request, install, script, arguments, answer, tmp_path):
    python = request.getfixturevalue('wheel_python') if install == 'wheel' else sys.executable
    # There is no data and no checkpoint here: the sentence that says so is our script's own.
    command = [python, '-m', 'mim', script, 'acon_mm', CONFIG, *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode != 0
    assert f'.mim/tools/{script}.py' in result.stdout
    assert f'configs/detection/{CONFIG}' in result.stdout
    assert answer in result.stderr
