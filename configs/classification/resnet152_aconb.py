# Table 3: top-1 error 21.7 % in the paper.
_base_ = './resnet152_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.AconB')))
