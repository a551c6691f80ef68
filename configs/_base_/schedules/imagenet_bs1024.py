# The authors' recipe for lightweight networks: a batch of 1024, 240 epochs, which are their
# 300,000 iterations. The label smoothing that belongs to it stands in models/lightweight.py.
_base_ = './imagenet_bs256.py'

train_cfg = dict(max_epochs=240)

param_scheduler = [
    dict(type='mmengine.LinearLR', start_factor=1.0, end_factor=0.0, convert_to_iter_based=True),
]

optim_wrapper = dict(optimizer=dict(lr=0.5, weight_decay=4e-5))

auto_scale_lr = dict(base_batch_size=1024)
