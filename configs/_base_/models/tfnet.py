_base_ = './lightweight.py'

model = dict(
    backbone=dict(type='acon_mm.TFNet', widen_factor=1.0),
    # The authors' networks wider than 0.5 have it.
    head=dict(type='acon_mm.DropoutLinearClsHead', in_channels=1024, dropout_rate=0.2),
)
