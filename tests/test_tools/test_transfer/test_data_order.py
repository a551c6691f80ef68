"""For one seed, networks with all activations see the same images in the same order."""

import itertools
from pathlib import Path

import pytest
import yaml
from grid import Grid

from acon_mm.apis.config import build_runner

RUNS = itertools.count()
TASKS = ('pretrain', 'detect', 'segment')


def trained_images(task, row, seed, digit_scenes, root):
    """Train one iteration, and return the images of it and of the iterations after it."""
    config = yaml.safe_load(Path('tools/transfer/config/digits.yaml').read_text())
    cfg = Grid(config).load(row, seed, task)
    cfg.work_dir = str(root / f'run{next(RUNS)}')
    cfg.visualizer.name = cfg.work_dir  # mmengine keeps one of a name
    cfg.model.backbone.init_cfg = None
    cfg.train_dataloader.batch_size = 2
    if task == 'segment':
        cfg.model.data_preprocessor.size = (96, 96)  # that of the images: nothing is padded
    data_root = digit_scenes / 'imagenet' if task == 'pretrain' else digit_scenes
    cfg.train_dataloader.dataset.data_root = str(data_root)
    runner = build_runner(cfg)
    loop = runner.build_train_loop(cfg.train_cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    images = []
    for index, batch in enumerate(itertools.islice(loop.dataloader, 3)):
        images += [sample.img_path for sample in batch['data_samples']]
        if index == 0:
            runner.model.train_step(batch, runner.optim_wrapper)
    return images


@pytest.mark.parametrize('task', TASKS)
def test_the_order_of_the_images_depends_on_the_seed_and_not_on_the_activation(
    task, digit_scenes, tmp_path, repo_root, monkeypatch
):
    """A Meta-ACON network draws more random numbers for itself; the data must not notice."""
    monkeypatch.chdir(repo_root)
    first, *others = (
        trained_images(task, row, 3, digit_scenes, tmp_path)
        for row in ('relu', 'swish', 'metaacon')
    )
    assert len(set(first)) == 6
    assert all(other == first for other in others)
    assert trained_images(task, 'relu', 4, digit_scenes, tmp_path) != first
