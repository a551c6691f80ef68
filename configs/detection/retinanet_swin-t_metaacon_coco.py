# RetinaNet with Swin-T as mmdetection has it, with Meta-ACON in the place of every GELU and ReLU.
_base_ = 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py'

model = dict(
    type='acon_mm.ReplaceActivations',
    module='mmdet.RetinaNet',
    act_cfg=dict(type='acon_mm.MetaAcon'),
)
# No weight decay for one-dimensional parameters, such as p1 and p2.
optim_wrapper = dict(paramwise_cfg=dict(flat_decay_mult=0.0))
