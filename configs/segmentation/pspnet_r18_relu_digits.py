# PSPNet-R18 on DigitScenes: Table 10's job at the size of two CPU cores. Only what is smaller
# differs from its configuration. `make demo TASK=segmentation` runs the Meta-ACON version.
_base_ = './pspnet_r50_relu.py'

# The classifier that configs/classification/resnet18_relu_digits.py trains.
pretrained = '{{$ACON_MM_PRETRAINED:work_dirs/resnet18_relu_digits/epoch_3.pth}}'

num_classes = 11  # ten digits and the background
# The heads tell the digits apart within 550 iterations if the background, nine tenths of the
# pixels, counts less, their last layer starts with larger weights and, below, they take larger
# steps. By mmseg's own values they found the ink, at a learning rate of 1e-3, and took all of it
# for background.
class_weight = [1.0] * 10 + [0.3]
init_cfg = dict(type='Normal', std=0.1, override=dict(name='conv_seg'))
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(
        depth=18,
        placement='all',  # both activations of each basic block, as in the paper
        # The fourth stage at stride 8 would cost more than all of the rest.
        out_indices=(1, 2),
        init_cfg=dict(checkpoint=pretrained),
    ),
    decode_head=dict(
        in_channels=256,
        in_index=1,
        channels=128,
        num_classes=num_classes,
        loss_decode=dict(class_weight=class_weight),
        init_cfg=init_cfg,
    ),
    auxiliary_head=dict(
        in_channels=128,
        in_index=0,
        channels=64,
        num_classes=num_classes,
        loss_decode=dict(class_weight=class_weight),
        init_cfg=init_cfg,
    ),
)

data_root = 'data/digit_scenes/'
dataset_type = 'acon_mm.DigitSceneDataset'
# No flip: a mirrored digit is another sign.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = train_pipeline
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmcv.TestTimeAug',
        transforms=[
            [dict(type='mmseg.Resize', scale=(x, x), keep_ratio=True) for x in (128, 160, 192)],
            [dict(type='mmseg.RandomFlip', prob=0.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='mmseg.PackSegInputs')],
        ],
    ),
]
# Two cores are busy with the network; a worker process would only take turns with it.
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type=dataset_type, data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type=dataset_type, data_root=data_root, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

max_iters = 550
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
# AdamW instead of SGD: the fresh heads have to catch up with the backbone in few steps. A key of
# their own takes the heads out of `flat_decay_mult`, so their norms and biases decay too.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='mmengine.AdamW', lr=8e-3, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=3.0))),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='mmengine.LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='mmengine.PolyLR', power=0.9, eta_min=0.0, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=8)

default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=max_iters, max_keep_ckpts=1)
)
randomness = dict(seed=0)
