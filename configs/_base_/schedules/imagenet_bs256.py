# The authors' recipe for ResNets: SGD at a batch of 256, 120 epochs of 1,281,167 images, which are
# their 600,000 iterations. The learning rate falls linearly to 0, with every iteration.
train_cfg = dict(type='acon_mm.EpochBasedTrainLoop', max_epochs=120, val_interval=1)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')

param_scheduler = [
    # Without an `end` it lasts as long as train_cfg says.
    dict(type='mmengine.LinearLR', start_factor=1.0, end_factor=0.0, convert_to_iter_based=True),
]

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    optimizer=dict(type='mmengine.SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
    # The authors decay what is called weight and has more than one dimension, Meta-ACON's two
    # layers included. p1, p2, beta, norms and biases are all one-dimensional here.
    paramwise_cfg=dict(flat_decay_mult=0.0),
)

auto_scale_lr = dict(enable=False, base_batch_size=256)
