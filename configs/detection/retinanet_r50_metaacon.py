# Table 9, the row meta-ACON: 36.5 mAP in the paper.
_base_ = './retinanet_r50_relu.py'

pretrained = '{{$ACON_MM_PRETRAINED:checkpoints/resnet50_metaacon.pth}}'

model = dict(
    backbone=dict(
        act_cfg=dict(type='acon_mm.MetaAcon'),
        init_cfg=dict(checkpoint=pretrained),
    )
)
