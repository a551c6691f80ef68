# Table 8: top-1 error 30.6 % in the paper.
_base_ = [
    '../_base_/models/shufflenetv2.py',
    '../_base_/datasets/imagenet_8xb128.py',
    '../_base_/schedules/imagenet_bs1024.py',
    '../_base_/classification_runtime.py',
]
