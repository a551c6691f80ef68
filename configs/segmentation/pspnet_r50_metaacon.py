# Table 10, the row meta-ACON: 78.3 mIoU in the paper.
_base_ = './pspnet_r50_relu.py'

pretrained = '{{$ACON_MM_PRETRAINED:checkpoints/resnet50_metaacon.pth}}'

model = dict(
    backbone=dict(
        act_cfg=dict(type='acon_mm.MetaAcon', norm_cfg={{_base_.norm_cfg}}),
        init_cfg=dict(checkpoint=pretrained),
    )
)
