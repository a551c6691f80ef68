# Table 2: top-1 error 46.2 % in the paper.
_base_ = './mobilenetv2_0.17_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon')))
