# Table 7: top-1 error 18.4 % in the paper.
_base_ = './senet154_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.AconC')))
