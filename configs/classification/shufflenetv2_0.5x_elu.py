# Table 4: top-1 error 39.5 % in the paper.
_base_ = './shufflenetv2_0.5x_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='mmengine.ELU')))
