# Table 8: top-1 error 24.3 % in the paper.
_base_ = [
    '../_base_/models/tfnet.py',
    '../_base_/datasets/imagenet_8xb128.py',
    '../_base_/schedules/imagenet_bs1024_cosine.py',
    '../_base_/classification_runtime.py',
]

model = dict(backbone=dict(widen_factor=2.0))
