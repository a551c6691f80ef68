# Table 2: top-1 error 26.4 % in the paper.
_base_ = './mobilenetv1_0.75_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon')))
