# Table 10's setting on a light backbone, which the paper does not have.
_base_ = './pspnet_r50_relu.py'

pretrained = '{{$ACON_MM_PRETRAINED:checkpoints/shufflenetv2_0.5x_metaacon.pth}}'

model = dict(
    backbone=dict(
        _delete_=True,
        type='acon_mm.AconShuffleNetV2',
        widen_factor=0.5,
        act_cfg=dict(type='acon_mm.MetaAcon', reduction=8, norm_cfg={{_base_.norm_cfg}}),
        placement='all',  # as in the paper for all lightweight networks
        output_stride=8,
        out_indices=(1, 2),  # what follows them are the classifier's 1024 channels
        norm_cfg={{_base_.norm_cfg}},
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.'),
    ),
    decode_head=dict(in_channels=192, in_index=1),
    auxiliary_head=dict(in_channels=96, in_index=0),
)
