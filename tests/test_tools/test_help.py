"""-h of a script answers at once: it imports neither torch nor OpenMMLab."""

import subprocess
import sys

import pytest

SCRIPTS = [
    *('train.py', 'test.py', 'demo.py'),
    *('analysis_tools/get_flops.py', 'analysis_tools/paper_tables.py'),
    'dataset_converters/make_digit_scenes.py',
    *('deployment/export.py', 'deployment/quantize.py'),
    *('misc/check_config.py', 'misc/check_dataset.py'),
    'model_converters/official_to_acon_mm.py',
    *('visualization/compare_models.py', 'visualization/plot_activations.py'),
    *('visualization/plot_logs.py', 'visualization/vis_beta.py'),
]


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_imports_no_library(repo_root, script):
    command = [sys.executable, '-X', 'importtime', str(repo_root / 'tools' / script), '-h']
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith('usage: ')
    imported = {line.rpartition('|')[2].strip() for line in run.stderr.splitlines()}
    assert 'argparse' in imported
    assert not imported & {'acon_mm', 'mmengine', 'numpy', 'torch'}
