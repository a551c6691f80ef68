# Table 7: top-1 error 18.95 % in the paper.
_base_ = [
    '../_base_/models/senet154.py',
    '../_base_/datasets/imagenet_8xb32.py',
    '../_base_/schedules/imagenet_bs256.py',
    '../_base_/classification_runtime.py',
]
