# Cityscapes fine: 2975 images to train with and 500 to validate, at their own 2048×1024 pixels.
# Crops of 512×1024 are mmseg's; the paper names no size.
data_root = 'data/cityscapes/'
scale = (2048, 1024)
crop_size = (512, 1024)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='mmcv.RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    # No class may fill more than three quarters of a crop.
    dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),  # behind the resizing: truth keeps its size
    dict(type='mmseg.PackSegInputs'),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmseg.CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmseg.CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

# With --tta: the probabilities of six sizes, each with its mirror image, are averaged.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmcv.TestTimeAug',
        transforms=[
            [
                dict(type='mmseg.Resize', scale_factor=factor, keep_ratio=True)
                for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [
                dict(type='mmseg.RandomFlip', prob=0.0),
                dict(type='mmseg.RandomFlip', prob=1.0),
            ],
            [dict(type='LoadAnnotations')],
            [dict(type='mmseg.PackSegInputs')],
        ],
    ),
]
