# Table 6: top-1 error 21.9 % in the paper.
_base_ = './resnet101_relu.py'

model = dict(backbone=dict(se_ratio=16))
