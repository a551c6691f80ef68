# Table 2: top-1 error 40.9 % in the paper.
_base_ = './mobilenetv1_0.25_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon')))
