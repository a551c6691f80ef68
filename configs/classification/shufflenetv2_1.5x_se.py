# Table 6: top-1 error 26.4 % in the paper.
_base_ = './shufflenetv2_1.5x_relu.py'

model = dict(backbone=dict(se_ratio=16))
