# ResNet-18 on the crops of DigitScenes: pretrains the backbone of
# configs/detection/retinanet_r18_relu_digits.py.
_base_ = [
    '../_base_/models/resnet18.py',
    '../_base_/datasets/digit_crops.py',
    '../_base_/classification_runtime.py',
]

model = dict(head=dict(num_classes=10, topk=(1,)))

max_epochs = 3
train_cfg = dict(type='acon_mm.EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')
optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    optimizer=dict(type='mmengine.AdamW', lr=2e-3, weight_decay=0.05),
    # No weight decay on anything one-dimensional: the activations' p1, p2, beta, norms, biases.
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='mmengine.LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    # Without an `end` it lasts as long as train_cfg says.
    dict(type='mmengine.CosineAnnealingLR', eta_min=0.0, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=32)

default_hooks = dict(
    logger=dict(interval=25), checkpoint=dict(interval=max_epochs, max_keep_ckpts=1)
)
randomness = dict(seed=0)
