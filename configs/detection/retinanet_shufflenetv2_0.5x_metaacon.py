# Table 9's setting on a light backbone, which the paper does not have.
_base_ = './retinanet_r50_relu.py'

pretrained = '{{$ACON_MM_PRETRAINED:checkpoints/shufflenetv2_0.5x_metaacon.pth}}'

model = dict(
    backbone=dict(
        _delete_=True,
        type='acon_mm.AconShuffleNetV2',
        widen_factor=0.5,
        act_cfg=dict(type='acon_mm.MetaAcon', reduction=8),
        placement='all',  # as in the paper for all lightweight networks
        out_indices=(0, 1, 2),  # strides 8, 16 and 32
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.'),
    ),
    neck=dict(in_channels=[48, 96, 192], start_level=0),
)
