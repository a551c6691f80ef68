# Table 6: top-1 error 21.5 % in the paper.
_base_ = './resnet152_relu.py'

model = dict(backbone=dict(se_ratio=16))
