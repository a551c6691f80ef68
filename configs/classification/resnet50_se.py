# Table 6: top-1 error 22.8 % in the paper.
_base_ = './resnet50_relu.py'

model = dict(backbone=dict(se_ratio=16))
