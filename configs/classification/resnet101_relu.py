# Tables 2, 3 and 6: top-1 error 22.8 % in the paper.
_base_ = [
    '../_base_/models/resnet50.py',
    '../_base_/datasets/imagenet_8xb32.py',
    '../_base_/schedules/imagenet_bs256.py',
    '../_base_/classification_runtime.py',
]

model = dict(backbone=dict(depth=101))
