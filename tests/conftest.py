"""What every test may ask for."""

from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

from acon_mm.datasets import BuildOptions, build_digit_scenes

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def no_default_scope():
    """Leave no default scope behind: one that a runner set would decide what later tests find."""
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def digit_scenes(tmp_path_factory):
    """A DigitScenes folder of a few images."""
    out = tmp_path_factory.mktemp('data') / 'digit_scenes'
    options = BuildOptions(
        num_train=20, num_val=4, num_train_crops=40, num_val_crops=10, image_size=96, crop_size=32
    )
    build_digit_scenes(out, options, log=lambda line: None)
    return out
