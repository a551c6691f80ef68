# ImageNet-1k at a batch of 1024, 8 GPUs × 128.
_base_ = './imagenet_8xb32.py'

train_dataloader = dict(batch_size=128)
