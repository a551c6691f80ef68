# YOLOX-s as mmdetection has it, with Meta-ACON in the place of every Swish.
_base_ = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'

model = dict(
    type='acon_mm.ReplaceActivations',
    module='mmdet.YOLOX',
    act_cfg=dict(type='acon_mm.MetaAcon'),
)
# No weight decay for one-dimensional parameters, such as p1 and p2.
optim_wrapper = dict(paramwise_cfg=dict(flat_decay_mult=0.0))
