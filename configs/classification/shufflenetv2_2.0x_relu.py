# Table 8: top-1 error 25.0 % in the paper.
# Dropout as in the authors' code, in this width only.
_base_ = [
    '../_base_/models/shufflenetv2.py',
    '../_base_/datasets/imagenet_8xb128.py',
    '../_base_/schedules/imagenet_bs1024.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(widen_factor=2.0),
    head=dict(type='acon_mm.DropoutLinearClsHead', in_channels=2048, dropout_rate=0.2),
)
