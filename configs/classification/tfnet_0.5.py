# Table 8: top-1 error 36.6 % in the paper.
# This width has no dropout in the authors' code.
_base_ = [
    '../_base_/models/tfnet.py',
    '../_base_/datasets/imagenet_8xb128.py',
    '../_base_/schedules/imagenet_bs1024_cosine.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(widen_factor=0.5),
    head=dict(dropout_rate=0.0),
)
