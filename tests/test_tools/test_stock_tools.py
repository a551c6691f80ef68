"""The scripts of OpenMMLab's libraries accept our configs, as docs/stock_tools.md says.

Those that take seconds; the page was written from runs of all.
"""

import importlib.util
import os
import re
import runpy
import sys
from pathlib import Path

import pytest

from acon_mm import config_path

CONFIGS = {
    'mmpretrain': 'resnet18_metaacon_digits',
    'mmdet': 'retinanet_r18_metaacon_digits',
    'mmseg': 'pspnet_r18_metaacon_digits',
}
NO_WINDOW = ('--output-dir', 'out', '--not-show')
# The library, the script, and its arguments besides the config.
CALLS = [
    *((library, 'misc/print_config.py', ()) for library in CONFIGS),
    ('mmdet', 'analysis_tools/browse_dataset.py', NO_WINDOW),
    ('mmdet', 'analysis_tools/get_flops.py', ('--num-images', '1')),
    (
        *('mmpretrain', 'visualization/browse_dataset.py'),
        (*NO_WINDOW, '--mode', 'original', '-n', '4'),
    ),
    ('mmpretrain', 'analysis_tools/get_flops.py', ('--shape', '64')),
    ('mmpretrain', 'misc/verify_dataset.py', ('--out-path', 'broken.log')),
    (
        *('mmpretrain', 'visualization/vis_scheduler.py'),
        ('--not-show', '--cfg-options', 'train_cfg.type=mmengine.EpochBasedTrainLoop'),
    ),
]


@pytest.mark.parametrize(('library', 'script', 'arguments'), CALLS)
def test_a_stock_script_that_the_page_recommends_takes_our_config(
    library, script, arguments, digit_scenes, tmp_path, monkeypatch, repo_root
):
    page = (repo_root / 'docs/stock_tools.md').read_text(encoding='utf-8')
    (row,) = re.findall(rf'^\| `{Path(script).stem}` .*$', page, re.MULTILINE)
    assert row.split('|')[2 + list(CONFIGS).index(library)].strip().startswith('works')

    (tmp_path / 'data').mkdir()
    os.symlink(digit_scenes, tmp_path / 'data/digit_scenes')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MPLBACKEND', 'agg')
    package = Path(importlib.util.find_spec(library).origin).parent
    path = package / '.mim/tools' / script
    monkeypatch.setattr(sys, 'argv', [str(path), config_path(CONFIGS[library]), *arguments])
    monkeypatch.syspath_prepend(path.parent)
    runpy.run_path(str(path), run_name='__main__')
