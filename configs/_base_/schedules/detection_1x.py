# 12 epochs at 8 GPUs × 2 images, mmdet's 1× schedule with the learning rate of its RetinaNet.
train_cfg = dict(type='acon_mm.EpochBasedTrainLoop', max_epochs=12, val_interval=1)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')

param_scheduler = [
    dict(type='mmengine.LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(
        type='mmengine.MultiStepLR',
        begin=0,
        end=12,
        by_epoch=True,
        milestones=[8, 11],
        gamma=0.1,
    ),
]

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    optimizer=dict(type='mmengine.SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    # No decay of anything one-dimensional: p1, p2 and beta of the activations, norms, biases.
    paramwise_cfg=dict(flat_decay_mult=0.0),
)

auto_scale_lr = dict(enable=False, base_batch_size=16)
