# Table 2: top-1 error 24.7 % in the paper.
_base_ = './shufflenetv2_1.5x_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon')))
