# Table 9, the row Swish (ACON-A): 35.8 mAP in the paper.
_base_ = './retinanet_r50_relu.py'

pretrained = '{{$ACON_MM_PRETRAINED:checkpoints/resnet50_swish.pth}}'

model = dict(
    backbone=dict(
        act_cfg=dict(type='acon_mm.AconA'),
        init_cfg=dict(checkpoint=pretrained),
    )
)
