"""Table 9's configuration is trained, stopped, resumed and tested."""

import os
import pickle
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from acon_mm.checkpoints import load_from_local

ROOT = Path(__file__).parents[2]

# Data, image size and pretraining differ from the real run; DigitScenes has ten classes.
CONFIG = """
_base_ = [{base!r}]
data_root = {data!r}
metainfo = dict(classes=tuple('0123456789'))
scale = (96, 96)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmdet.Resize', scale=scale, keep_ratio=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmdet.PackDetInputs', meta_keys={{{{_base_.meta_keys}}}}),
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='images/train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val.json')
test_evaluator = val_evaluator
model = dict(
    backbone=dict(init_cfg=None),
    bbox_head=dict(num_classes=10),
    test_cfg=dict(score_thr=0.0),  # twenty iterations leave every score below the default 0.05
)
tta_model = tta_pipeline = None  # views of 96 pixels by the flip of tools/test.py
"""


@pytest.fixture(scope='module')
def config(digit_scenes, tmp_path_factory):
    path = tmp_path_factory.mktemp('config') / 'retinanet.py'
    base = ROOT / 'configs/detection/retinanet_r50_metaacon.py'
    path.write_text(CONFIG.format(base=str(base), data=str(digit_scenes)))
    return path


def last_epoch(folder):
    """Return the epoch of the latest checkpoint that was written whole."""
    pointer = folder / 'last_checkpoint'
    found = re.search(r'epoch_(\d+)', pointer.read_text()) if pointer.is_file() else None
    return int(found[1]) if found else 0


def test_two_processes_train_twenty_iterations_are_stopped_and_resume(
    start_tool, run_tool, config, tmp_path
):
    """An epoch is 5 iterations of two processes."""
    folder, epochs = tmp_path / 'run', 4
    arguments = ['dist_train.sh', config, 2, '--work-dir', folder]
    once = [f'train_cfg.val_interval={epochs}', f'default_hooks.checkpoint.interval={epochs}']
    endless = ['train_cfg.max_epochs=1000', *once]
    log = tmp_path / 'log'
    with log.open('w') as output:
        process = start_tool(*arguments, '--cfg-options', *endless, log=output)
        while 'bbox_mAP' not in log.read_text() and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait() != 0
    reached = last_epoch(folder)
    assert reached >= epochs, log.read_text()[-3000:]
    assert load_from_local(folder / f'epoch_{epochs}.pth')['meta']['iter'] == 20

    more = ['--resume', '--cfg-options', f'train_cfg.max_epochs={reached + 1}']
    run = run_tool(*arguments, *more)
    assert run.returncode == 0, run.stderr[-3000:]
    resumed = re.search(f'resumed epoch: {reached}, iter: (\\d+)', run.stdout + run.stderr)
    # The signal may have saved in the middle of an epoch.
    assert 0 <= int(resumed[1]) - reached * 5 <= 5
    state = load_from_local(folder / f'epoch_{reached + 1}.pth')
    assert state['meta']['iter'] == (reached + 1) * 5
    losses = state['message_hub']['log_scalars']['train/loss'].data[0]
    assert len(losses) == (reached + 1) * 5  # those before the stop are still known


def test_a_checkpoint_is_tested_drawn_and_written_out(run_tool, config, tmp_path, digit_scenes):
    model = MODELS.build(Config.fromfile(config).model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'random.pth')
    flags = ['--tta', '--show-dir', 'pictures', '--out', 'new/predictions.pkl']
    run = run_tool('dist_test.sh', config, 'random.pth', 2, *flags, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]
    assert 'bbox_mAP' in run.stdout + run.stderr
    names = sorted(path.name for path in (digit_scenes / 'images/val').iterdir())
    # The first of the two processes draws its half of the images.
    assert sorted(os.listdir(tmp_path / 'pictures')) == names[::2]
    predictions = pickle.loads((tmp_path / 'new/predictions.pkl').read_bytes())
    assert len(predictions) == len(names)
    assert 'pred_instances' in predictions[0]
