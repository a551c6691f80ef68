# RetinaNet-R18 on DigitScenes: the main job at the size of two CPU cores. Only what is smaller
# differs from Table 9's configuration. `make demo` runs the Meta-ACON version beside this one.
_base_ = './retinanet_r50_relu.py'

# The classifier that configs/classification/resnet18_relu_digits.py trains.
pretrained = '{{$ACON_MM_PRETRAINED:work_dirs/resnet18_relu_digits/epoch_3.pth}}'

model = dict(
    backbone=dict(
        depth=18,
        placement='all',  # both activations of each basic block, as in the paper
        # So short a pretraining leaves statistics and first layers that still have to move.
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=dict(checkpoint=pretrained),
    ),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    bbox_head=dict(num_classes=10, in_channels=128, feat_channels=128, stacked_convs=2),
)

data_root = 'data/digit_scenes/'
metainfo = dict(classes=tuple('0123456789'))
scale = (160, 160)
# No flip: a mirrored digit is another sign.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmdet.Resize', scale=scale, keep_ratio=True),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmdet.PackDetInputs', meta_keys={{_base_.meta_keys}}),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmcv.TestTimeAug',
        transforms=[
            [dict(type='mmdet.Resize', scale=(x, x), keep_ratio=True) for x in (128, 160, 192)],
            [dict(type='mmdet.RandomFlip', prob=0.0)],  # merging asks whether a view is flipped
            [dict(type='LoadAnnotations', with_bbox=True)],
            [
                dict(
                    type='mmdet.PackDetInputs',
                    meta_keys=(
                        *('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
                        *('flip', 'flip_direction'),
                    ),
                )
            ],
        ],
    ),
]
# Two cores are busy with the network; a worker process would only take turns with it.
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='images/train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

max_epochs = 5
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
# AdamW instead of SGD: in 500 steps the fresh neck and head have to catch up with the backbone,
# and AdamW gives each parameter a step of its own size.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='mmengine.AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='mmengine.LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    # Without an `end` it lasts as long as train_cfg says.
    dict(type='mmengine.CosineAnnealingLR', eta_min=0.0, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=8)

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=max_epochs, max_keep_ckpts=1),
    # Below one half, pictures show several classes on the same digit.
    visualization=dict(score_thr=0.5),
)
randomness = dict(seed=0)
