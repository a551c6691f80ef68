# Not in the paper; a width that the authors' code has.
_base_ = './shufflenetv2_1.0x_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon')))
