# RTMDet-tiny as mmdetection has it, with Meta-ACON in the place of every SiLU.
_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'

model = dict(
    type='acon_mm.ReplaceActivations',
    module='mmdet.RTMDet',
    act_cfg=dict(type='acon_mm.MetaAcon'),
)
# No weight decay for one-dimensional parameters, such as p1 and p2.
optim_wrapper = dict(paramwise_cfg=dict(flat_decay_mult=0.0))
