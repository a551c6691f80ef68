# Table 9, the row ReLU: 35.2 mAP in the paper.
_base_ = [
    '../_base_/models/retinanet_r50.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]

# The ImageNet checkpoint of the backbone. The environment variable ACON_MM_PRETRAINED replaces it.
pretrained = '{{$ACON_MM_PRETRAINED:checkpoints/resnet50_relu.pth}}'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.'))
)
