# Table 6: top-1 error 24.7 % in the paper.
# One activation per block, as its caption says; Table 2 has the same error for all of them.
_base_ = './shufflenetv2_1.5x_metaacon.py'

model = dict(backbone=dict(placement='one'))
