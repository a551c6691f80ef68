_base_ = './resnet50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='acon_mm.AconSENet',
        depth=154,
        act_cfg=dict(type='ReLU'),
        placement='one',  # the paper does not say; as in its other networks of bottlenecks
    ),
    # The SENet authors' dropout.
    head=dict(type='acon_mm.DropoutLinearClsHead', dropout_rate=0.2),
)
