# Section 3.1: depth-wise fully-connected layers in the switching factor save parameters in large
# networks. The paper has no figure for it.
_base_ = './resnet152_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon', depthwise=True)))
