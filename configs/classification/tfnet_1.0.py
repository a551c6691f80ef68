# Table 8: top-1 error 29.7 % in the paper.
_base_ = [
    '../_base_/models/tfnet.py',
    '../_base_/datasets/imagenet_8xb128.py',
    '../_base_/schedules/imagenet_bs1024_cosine.py',
    '../_base_/classification_runtime.py',
]
