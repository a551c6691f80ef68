# Table 3: top-1 error 29.1 % in the paper.
_base_ = './resnet18_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.AconC')))
