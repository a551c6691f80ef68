# Table 10, the row ReLU: 77.2 mIoU in the paper.
_base_ = [
    '../_base_/models/pspnet_r50.py',
    '../_base_/datasets/cityscapes_512x1024.py',
    '../_base_/schedules/segmentation_40k.py',
    '../_base_/segmentation_runtime.py',
]

# The ImageNet checkpoint of the backbone. The environment variable ACON_MM_PRETRAINED replaces it.
pretrained = '{{$ACON_MM_PRETRAINED:checkpoints/resnet50_relu.pth}}'

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
)
