# Table 5: top-1 error 37.2 % in the paper.
# The switching factor σ(x).
_base_ = './shufflenetv2_0.5x_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon', manner='pixel_wise')))
