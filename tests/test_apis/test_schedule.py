"""A schedule that does not end with the training is told, and ours follow the training."""

import pytest
from mmengine.config import Config

from acon_mm._mim import named_configs
from acon_mm.apis.config import load_config
from acon_mm.apis.schedule import schedule_gaps

WARM_UP = {'type': 'LinearLR', 'start_factor': 0.1, 'end': 3}
COSINE = {'type': 'mmengine.CosineAnnealingLR'}
TWELVE = {'by_epoch': True, 'max_epochs': 12}


def gaps(train_cfg, param_scheduler):
    return list(schedule_gaps(Config(dict(train_cfg=train_cfg, param_scheduler=param_scheduler))))


@pytest.mark.parametrize(
    ('train_cfg', 'param_scheduler', 'end'),
    [
        (TWELVE, [WARM_UP, {**COSINE, 'end': 5, 'T_max': 5}], 5),
        (TWELVE, [WARM_UP, {**COSINE, 'begin': 3, 'T_max': 2}], 5),
        (TWELVE, {'type': 'MultiStepLR', 'milestones': [16, 22], 'end': 24}, 24),
        (TWELVE, {'one': [COSINE], 'other': [{**COSINE, 'end': 5}]}, 5),
        ({'max_iters': 70}, [{'type': 'PolyLR', 'by_epoch': False, 'end': 50}], 50),
    ],
)
def test_a_schedule_of_another_length_is_told(train_cfg, param_scheduler, end):
    (line,) = gaps(train_cfg, param_scheduler)
    (key,) = set(train_cfg) - {'by_epoch'}
    assert f'ends at {end} and train_cfg.{key} is {train_cfg[key]}' in line


@pytest.mark.parametrize(
    ('train_cfg', 'param_scheduler'),
    [
        (TWELVE, None),
        (TWELVE, [WARM_UP]),
        (TWELVE, [WARM_UP, COSINE]),
        (TWELVE, [{**COSINE, 'end': 9}, {'type': 'ConstantLR', 'begin': 9, 'end': 12}]),
        (TWELVE, [{'type': 'PolyLR', 'by_epoch': False, 'end': 50}]),  # how long is an epoch?
        ({'max_iters': 50}, [{'type': 'PolyLR', 'by_epoch': False, 'end': 50}]),
    ],
)
def test_a_schedule_as_long_as_the_training_is_not(train_cfg, param_scheduler):
    assert not gaps(train_cfg, param_scheduler)


def test_no_config_of_ours_is_told():
    for path in named_configs().values():
        assert not list(schedule_gaps(load_config(path))), path


@pytest.mark.parametrize(
    ('config', 'key'),
    [
        ('detection/retinanet_r18_relu_digits.py', 'max_epochs'),
        ('classification/resnet18_relu_digits.py', 'max_epochs'),
        ('classification/resnet50_relu.py', 'max_epochs'),
        ('classification/tfnet_1.0.py', 'max_epochs'),
        ('segmentation/pspnet_r18_relu_digits.py', 'max_iters'),
        ('segmentation/pspnet_r50_relu.py', 'max_iters'),
    ],
)
def test_a_schedule_of_ours_follows_the_length_of_the_training(repo_root, config, key):
    cfg = load_config(repo_root / 'configs' / config, {f'train_cfg.{key}': 77})
    assert not list(schedule_gaps(cfg))
