import pytest

from acon_mm.datasets import BuildOptions, build_digit_scenes

SMALL = BuildOptions(num_train=12, num_val=8, num_train_crops=30, num_val_crops=20)


@pytest.fixture(scope='session')
def small_options():
    return SMALL


@pytest.fixture(scope='session')
def small_build(tmp_path_factory):
    out = tmp_path_factory.mktemp('digits') / 'digit_scenes'
    assert build_digit_scenes(out, SMALL, log=lambda line: None)
    return out
