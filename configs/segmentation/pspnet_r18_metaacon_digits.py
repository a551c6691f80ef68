_base_ = './pspnet_r18_relu_digits.py'

pretrained = '{{$ACON_MM_PRETRAINED:work_dirs/resnet18_metaacon_digits/epoch_3.pth}}'

model = dict(
    backbone=dict(
        act_cfg=dict(type='acon_mm.MetaAcon', norm_cfg={{_base_.norm_cfg}}),
        init_cfg=dict(checkpoint=pretrained),
    )
)
