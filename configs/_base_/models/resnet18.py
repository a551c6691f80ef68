# ResNet-18 as an image classifier on BGR input from 0 to 255, neither mean nor standard deviation.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[0.0, 0.0, 0.0],
        std=[1.0, 1.0, 1.0],
        to_rgb=False,
    ),
    backbone=dict(
        type='acon_mm.AconResNet',
        depth=18,
        act_cfg=dict(type='ReLU'),
        placement='all',  # both activations of each basic block, as in the paper
        style='caffe',
    ),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)
