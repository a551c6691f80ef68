# Table 10, the row Swish (ACON-A): 77.5 mIoU in the paper.
_base_ = './pspnet_r50_relu.py'

pretrained = '{{$ACON_MM_PRETRAINED:checkpoints/resnet50_swish.pth}}'

model = dict(
    backbone=dict(
        act_cfg=dict(type='acon_mm.AconA'),
        init_cfg=dict(checkpoint=pretrained),
    )
)
