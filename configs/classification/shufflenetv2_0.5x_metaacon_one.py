# Table 6: top-1 error 34.8 % in the paper.
# One activation per block, as its caption says; Table 2 has the same error for all of them.
_base_ = './shufflenetv2_0.5x_metaacon.py'

model = dict(backbone=dict(placement='one'))
