# Table 3: top-1 error 23.5 % in the paper.
_base_ = './resnet50_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.AconA')))
