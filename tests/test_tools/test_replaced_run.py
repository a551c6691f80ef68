"""Stock detectors and a segmentor with Meta-ACON train, validate and resume on digit scenes."""

from pathlib import Path

import pytest
import torch

from acon_mm.checkpoints import load_from_local

ROOT = Path(__file__).parents[2]

COMMON = """
_base_ = [{base!r}]
data_root = {data!r}
custom_imports = dict(imports=['cpu_amp'])
optim_wrapper = dict(type='mmengine.CpuAmpOptimWrapper')
model = {model}
loader = dict(
    _delete_=True,
    batch_size={batch},
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
)
"""

DETECTOR = """
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
]
meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
digits = dict(
    type='CocoDataset',
    data_root=data_root,
    metainfo=dict(classes=tuple('0123456789')),
    ann_file='annotations/instances_train.json',
    data_prefix=dict(img='images/train/'),
    pipeline=[*load, dict(type='PackDetInputs')],
)
# YOLOX tells its data set when to leave off mixing images.
mixed = dict(type='MultiImageMixDataset', dataset=digits, pipeline=[])
train_dataloader = dict(**loader, dataset=mixed)
val_dataloader = dict(
    **loader,
    dataset=dict(
        digits,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/val/'),
        pipeline=[*load, dict(type='PackDetInputs', meta_keys=meta)],
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='CocoMetric',
    ann_file=data_root + '/annotations/instances_val.json',
    metric='bbox',
)
test_evaluator = val_evaluator
tta_model = tta_pipeline = None
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1))
"""

SEGMENTOR = """
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackSegInputs'),
]
digits = dict(
    type='CityscapesDataset',
    data_root=data_root,
    data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
    pipeline=pipeline,
)
train_dataloader = dict(
    **dict(loader, sampler=dict(type='InfiniteSampler', shuffle=True)), dataset=digits
)
val_dataloader = dict(
    **loader,
    dataset=dict(
        digits, data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
    ),
)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=20, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=20))
"""

NETWORKS = {
    'rtmdet_tiny': (
        'detection/rtmdet_tiny_metaacon_coco.py',
        # Twenty iterations may leave every score low and the boxes with negative sides.
        'dict(backbone=dict(init_cfg=None), bbox_head=dict(num_classes=10), '
        'test_cfg=dict(score_thr=0.0, min_bbox_size=-1))',
        DETECTOR,
    ),
    'yolox_s': (
        'detection/yolox_s_metaacon_coco.py',
        'dict(data_preprocessor=dict(batch_augments=None), bbox_head=dict(num_classes=10), '
        'test_cfg=dict(score_thr=0.0))',
        DETECTOR,
    ),
    'segformer_b0': (
        'segmentation/segformer_mit-b0_metaacon_cityscapes.py',
        'dict(backbone=dict(init_cfg=None), data_preprocessor=dict(size=(96, 96)), '
        "test_cfg=dict(_delete_=True, mode='whole'))",
        SEGMENTOR,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
@pytest.mark.parametrize('network', NETWORKS)
def test_it_trains_twenty_iterations_validates_and_resumes(
    run_tool, digit_scenes, tmp_path, network, processes
):
    """In bfloat16; an epoch of the detectors is ten iterations."""
    base, model, data = NETWORKS[network]
    config = tmp_path / f'{network}.py'
    text = COMMON.format(
        base=str(ROOT / 'configs' / base),
        data=str(digit_scenes),
        model=model,
        batch=2 // processes,
    )
    config.write_text(text + data)
    script = ['train.py', config] if processes == 1 else ['dist_train.sh', config, processes]
    by_epoch = data is DETECTOR
    run = run_tool(*script, '--work-dir', tmp_path / 'run')
    assert run.returncode == 0, run.stderr[-3000:]
    log = run.stdout + run.stderr
    assert 'activations replaced by MetaAcon' in log
    assert ('bbox_mAP' if by_epoch else 'mIoU') in log

    key, value = ('max_epochs', 3) if by_epoch else ('max_iters', 22)
    more = [f'train_cfg.{key}={value}', 'default_hooks.checkpoint.interval=1']
    run = run_tool(*script, '--work-dir', tmp_path / 'run', '--resume', '--cfg-options', *more)
    assert run.returncode == 0, run.stderr[-3000:]
    name = 'epoch_3.pth' if by_epoch else 'iter_22.pth'
    state = load_from_local(tmp_path / 'run' / name)
    assert state['meta']['iter'] == (30 if by_epoch else 22)
    losses = state['message_hub']['log_scalars']['train/loss'].data[0]
    assert len(losses) == state['meta']['iter']
    assert torch.isfinite(torch.tensor(losses)).all()
    slopes = {k: v for k, v in state['state_dict'].items() if k.endswith('.p1')}
    assert slopes and all((slope != 1).any() for slope in slopes.values())  # all have learnt
