# Tables 2 and 3: top-1 error 30.3 % in the paper.
_base_ = [
    '../_base_/models/resnet18.py',
    '../_base_/datasets/imagenet_8xb32.py',
    '../_base_/schedules/imagenet_bs256.py',
    '../_base_/classification_runtime.py',
]
