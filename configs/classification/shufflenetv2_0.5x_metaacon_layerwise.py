# Table 5: top-1 error 36.3 % in the paper.
# The switching factor σ(Σ over channels of GAP(x)).
_base_ = './shufflenetv2_0.5x_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon', manner='layer_wise')))
