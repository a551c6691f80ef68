"""For one seed, networks with all activations see the same images in the same order."""

import itertools

import pytest

from acon_mm.analysis.transfer_plan import (
    ACTIVATIONS,
    CLASSIFICATION,
    PRESETS,
    SEGMENTATION,
    TASKS,
    Variant,
    plan_chain,
)
from acon_mm.apis.config import build_runner, load_config

RUNS = itertools.count()


def trained_images(task, activation, seed, digit_scenes, root):
    """Train one iteration, and return the images of it and of the iterations after it."""
    variant = Variant(activation, activation, activation)
    chain = plan_chain(PRESETS['digits'], variant, seed, root)
    (step,) = [s for s in chain.steps if s.task == task and not s.is_test]
    cfg = load_config(step.config, dict(step.options), root / f'run{next(RUNS)}')
    cfg.visualizer.name = cfg.work_dir  # mmengine keeps one of a name
    cfg.model.backbone.init_cfg = None
    cfg.train_dataloader.batch_size = 2
    if task == SEGMENTATION:
        cfg.model.data_preprocessor.size = (96, 96)  # that of the images: nothing is padded
    data_root = digit_scenes / 'imagenet' if task == CLASSIFICATION else digit_scenes
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
    task, digit_scenes, tmp_path
):
    """A Meta-ACON network draws more random numbers for itself; the data must not notice."""
    first, *others = (
        trained_images(task, name, 3, digit_scenes, tmp_path) for name in ACTIVATIONS
    )
    assert len(set(first)) == 6
    assert all(other == first for other in others)
    assert trained_images(task, 'relu', 4, digit_scenes, tmp_path) != first
