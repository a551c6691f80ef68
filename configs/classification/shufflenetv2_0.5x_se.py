# Table 6: top-1 error 37.5 % in the paper.
_base_ = './shufflenetv2_0.5x_relu.py'

model = dict(backbone=dict(se_ratio=16))
