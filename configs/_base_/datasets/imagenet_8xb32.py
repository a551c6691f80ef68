# ImageNet-1k at a batch of 256, 8 GPUs × 32, with the input of the authors' networks: BGR from 0
# to 255. If the validation images lie in one folder, mmpretrain.ImageNet needs meta/val.txt.
data_root = 'data/imagenet'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # Pillow smooths where it shrinks, as in torchvision's transforms, whose names the authors use.
    dict(type='mmpretrain.RandomResizedCrop', scale=224, backend='pillow'),
    dict(type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='mmcv.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # The shorter side becomes 256, the other is rounded half up, with OpenCV's bilinear filter,
    # as the authors do. mmpretrain.ResizeEdge rounds down and makes half of the images a pixel
    # smaller. The first number is a bound of the longer side that no image reaches.
    dict(type='mmcv.Resize', scale=(100000, 256), keep_ratio=True, backend='cv2'),
    dict(type='mmcv.CenterCrop', crop_size=224),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmpretrain.ImageNet',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.ImageNet',
        data_root=data_root,
        split='val',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

# With --tta: the scores of the image and of its mirror image are averaged.
tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
tta_pipeline = [
    *test_pipeline[:-1],
    dict(
        type='mmcv.TestTimeAug',
        transforms=[
            [dict(type='mmcv.RandomFlip', prob=prob) for prob in (0.0, 1.0)],
            test_pipeline[-1:],
        ],
    ),
]
