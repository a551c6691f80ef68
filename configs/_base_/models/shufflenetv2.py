_base_ = './lightweight.py'

model = dict(
    backbone=dict(
        type='acon_mm.AconShuffleNetV2',
        widen_factor=1.0,
        act_cfg=dict(type='ReLU'),
        placement='all',  # as in the paper for all lightweight networks
    ),
    head=dict(in_channels=1024),
)
