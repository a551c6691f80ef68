# Tables 2, 4 and 5: top-1 error 34.8 % in the paper.
# All activations, as section 4.1 says of lightweight networks. Only in this width is r not 16.
_base_ = './shufflenetv2_0.5x_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon', reduction=8)))
