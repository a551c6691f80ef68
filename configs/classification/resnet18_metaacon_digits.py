_base_ = './resnet18_relu_digits.py'

# p1 and p2 start as in the authors' code. From 1 and 0, the network is nearly linear at first, and
# so short a training leaves it so; see docs/transfer_on_digits.md.
model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon', init='normal')))
