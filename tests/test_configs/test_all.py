"""What holds for every config file."""

import importlib
from pathlib import Path

import mmengine.registry
import pytest
from mmengine.config import Config
from mmengine.registry import Registry

CONFIGS = Path(__file__).parents[2] / 'configs'
FILES = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.glob('[!_]*/*.py'))
# What they inherit from a stock config is as its library writes it.
OWN = [file for file in FILES if "_base_ = 'mm" not in (CONFIGS / file).read_text()]

ROOTS = [r for r in vars(mmengine.registry).values() if isinstance(r, Registry)]

# Names that OpenMMLab's code compares with a string or looks up in torch or mmcv.ops.
BARE = {
    'LoadImageFromFile',
    'LoadAnnotations',
    'Pretrained',
    'Kaiming',
    'Constant',
    'Normal',
    'BN',
    'SyncBN',
    'ReLU',
    'nms',
}


def types(node, at=''):
    """Yield the place and the value of every key ``type``."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == 'type' and isinstance(value, str):
                yield at, value
            yield from types(value, f'{at}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from types(value, f'{at}[{i}]')


@pytest.mark.parametrize('file', OWN)
def test_every_type_carries_its_scope(file):
    cfg = Config.fromfile(CONFIGS / file)
    found = list(types(cfg.to_dict()))
    assert found
    assert not [pair for pair in found if '.' not in pair[1] and pair[1] not in BARE]


@pytest.mark.parametrize('file', FILES)
def test_a_config_says_what_differs_and_no_more(file):
    """A config inherits, and stays shorter than what a reader takes in at a glance."""
    text = (CONFIGS / file).read_text()
    assert '_base_ = ' in text
    assert len(text.splitlines()) <= 120


@pytest.mark.parametrize('file', OWN)
def test_the_visualizer_writes_to_disk_and_to_tensorboard(file):
    backends = [b.type for b in Config.fromfile(CONFIGS / file).visualizer.vis_backends]
    assert backends == ['mmengine.LocalVisBackend', 'mmengine.TensorboardVisBackend']


@pytest.mark.parametrize('file', FILES)
def test_every_type_is_registered(file):
    """A scope that does not hold the name fails only when the runner reaches it."""
    cfg = Config.fromfile(CONFIGS / file)
    # What a runner does first: import all modules of the library that the config is for.
    importlib.import_module(f'{cfg.default_scope}.utils').register_all_modules(False)
    # The runner asks that library's registries, which find in others only what they name rightly.
    children = [root.children.get(cfg.default_scope, root) for root in ROOTS]
    names = {name for _, name in types(cfg.to_dict()) if '.' in name}
    unknown = {name for name in names if not any(child.get(name) for child in children)}
    assert not unknown
