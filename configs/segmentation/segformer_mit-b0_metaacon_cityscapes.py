# SegFormer-B0 as mmsegmentation has it, with Meta-ACON in the place of every GELU and ReLU.
_base_ = 'mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py'

model = dict(
    type='acon_mm.ReplaceActivations',
    module='mmseg.EncoderDecoder',
    act_cfg=dict(type='acon_mm.MetaAcon'),
)
# No weight decay for one-dimensional parameters, such as p1 and p2. Those in the head would else
# have that of the key 'head'.
custom_keys = {'activate.p': dict(lr_mult=10.0, decay_mult=0.0)}
optim_wrapper = dict(paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys=custom_keys))
