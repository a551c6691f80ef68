"""A stock config of mmdetection with the lines of docs/reliability.md is resumed exactly."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from acon_mm.checkpoints import load_from_local
from acon_mm.checkpoints.finding import find_newest_whole

ROOT = Path(__file__).parents[2]
DOCUMENT, README = (
    (ROOT / name).read_text(encoding='utf-8') for name in ('docs/reliability.md', 'README.md')
)

# What makes it small; the data lie elsewhere.
SMALL = """
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomChoiceResize', scales=[(64, 64), (96, 96)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root={root!r},
        metainfo=dict(classes=tuple('0123456789')),
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/val/'),
        filter_cfg=None,
        pipeline=pipeline,
    ),
)
val_cfg = val_dataloader = val_evaluator = None
model = dict(
    backbone=dict(depth=18, init_cfg=None, frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=16),
    bbox_head=dict(num_classes=10, in_channels=16, feat_channels=16, stacked_convs=1),
)
train_cfg = dict(max_epochs=3)
randomness = dict(seed=3)
log_level = 'ERROR'
"""


class Kill(Hook):
    def after_train_iter(self, runner, **kwargs):
        if runner.iter == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_the_lines_of_the_document_make_a_stock_run_exact(toy, digit_scenes, tmp_path):
    (lines,) = re.findall(r"```python\n(_base_ = 'mmdet::.*?)```", DOCUMENT, re.DOTALL)
    assert lines in README
    path = tmp_path / 'stock.py'
    path.write_text(lines)
    (tmp_path / 'small.py').write_text(
        "_base_ = './stock.py'\n" + SMALL.format(root=str(digit_scenes))
    )
    cfg = Config.fromfile(tmp_path / 'small.py')
    states = []
    for hook in (None, Kill()):
        cfg.work_dir = str(tmp_path / f'{hook is None}')
        toy(cfg, hook=hook)
        if hook is not None:
            assert find_newest_whole(cfg.work_dir).name == 'epoch_1.pth'
            toy(cfg, resume=True)
        newest = find_newest_whole(cfg.work_dir)
        assert newest.name == 'epoch_3.pth'
        states.append(load_from_local(newest)['state_dict'])
    torch.testing.assert_close(*states, rtol=0, atol=0)
