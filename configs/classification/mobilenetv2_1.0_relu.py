# Table 2: 27.9 %; Table 8: 28.0 % top-1 error in the paper.
_base_ = [
    '../_base_/models/mobilenetv2.py',
    '../_base_/datasets/imagenet_8xb128.py',
    '../_base_/schedules/imagenet_bs1024.py',
    '../_base_/classification_runtime.py',
]
