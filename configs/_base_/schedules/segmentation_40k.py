# The paper's learning rate, power, weight decay and batch of 16 (8 GPUs × 2 crops). Momentum, the
# floor of the learning rate and the number of crops are mmseg's: 40,000 batches of 16 are as many
# as the 80,000 of 8 of its longer schedule.
max_iters = 40000
train_cfg = dict(type='acon_mm.IterBasedTrainLoop', max_iters=max_iters, val_interval=4000)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')

param_scheduler = [
    # Without an `end` it lasts as long as train_cfg says.
    dict(type='mmengine.PolyLR', power=0.9, eta_min=1e-4, by_epoch=False),
]

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    optimizer=dict(type='mmengine.SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    # No decay of anything one-dimensional: p1, p2 and beta of the activations, norms, biases.
    paramwise_cfg=dict(flat_decay_mult=0.0),
)

auto_scale_lr = dict(enable=False, base_batch_size=16)
