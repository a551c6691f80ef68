# The recipe for lightweight networks with half a cosine wave, as the paper has it for TFNet. The
# script that the authors released trains TFNet with the linear decay of imagenet_bs1024.py.
_base_ = './imagenet_bs1024.py'

param_scheduler = [
    dict(type='mmengine.CosineAnnealingLR', eta_min=0.0, convert_to_iter_based=True),
]
