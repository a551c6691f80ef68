_base_ = './resnet18.py'

model = dict(
    backbone=dict(
        depth=50,
        placement='one',  # after the 3×3 convolution of each bottleneck, as in the paper
    ),
    head=dict(in_channels=2048),
)
