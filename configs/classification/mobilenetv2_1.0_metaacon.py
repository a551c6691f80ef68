# Table 2: top-1 error 25.0 % in the paper.
_base_ = './mobilenetv2_1.0_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon')))
