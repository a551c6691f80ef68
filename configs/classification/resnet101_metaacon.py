# Tables 2 and 6: top-1 error 21.0 % in the paper.
_base_ = './resnet101_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon')))
