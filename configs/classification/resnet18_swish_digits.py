_base_ = './resnet18_relu_digits.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.AconA')))
