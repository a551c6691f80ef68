# Table 2: top-1 error 46.2 % in the paper.
# r = 8, as in the authors' ShuffleNetV2 0.5×, is inferred from the paper's 1.9M parameters.
_base_ = './mobilenetv2_0.17_relu.py'

model = dict(backbone=dict(act_cfg=dict(type='acon_mm.MetaAcon', reduction=8)))
