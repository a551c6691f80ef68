"""Table 10's configurations are trained, resumed and tested on Cityscapes-layout digits."""

import itertools
import os
import re
import shutil

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from acon_mm import apis, config_path
from acon_mm.checkpoints import load_from_local
from acon_mm.errors import UserError

SLOW = ('r50_metaacon', 'r50_relu', 'r50_swish')
CONFIGS = [
    'shufflenetv2_0.5x_metaacon',
    *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
]
SPLITS = ('train', 'val', 'test')
VISUALIZERS = itertools.count()


def options(digit_scenes, iterations):
    """Return what differs from the real run: data, sizes, iterations and pretraining.

    Digits and their background are eleven of the nineteen classes.
    """
    changed = {
        # mmengine keeps one visualizer a name, with the folder of the run that it was made for.
        'visualizer.name': f'visualizer_{next(VISUALIZERS)}',
        'model.backbone.init_cfg': None,
        'model.data_preprocessor.size': (64, 64),
        'train_dataloader.dataset.pipeline.2.scale': (96, 96),
        'train_dataloader.dataset.pipeline.3.crop_size': (64, 64),
        'train_cfg.max_iters': iterations,
        'train_cfg.val_interval': 10,
        'default_hooks.checkpoint.interval': 10,
    }
    for split in SPLITS:
        changed[f'{split}_dataloader.dataset.data_root'] = str(digit_scenes)
        changed[f'{split}_dataloader.num_workers'] = 0
        changed[f'{split}_dataloader.persistent_workers'] = False
        if split != 'train':
            changed[f'{split}_dataloader.dataset.pipeline.1.scale'] = (96, 96)
    return changed


def arguments(changed):
    """Return ``--cfg-options`` for the command line."""
    pairs = (f'{key}={value}'.replace(' ', '') for key, value in changed.items())
    return ['--cfg-options', *pairs]


@pytest.fixture
def folder(tmp_path):
    """A work dir that leaves no checkpoints of 400 MB behind."""
    yield tmp_path / 'run'
    shutil.rmtree(tmp_path / 'run', ignore_errors=True)


def check_run(folder, iterations):
    """Check the last checkpoint of a run and return what was logged."""
    state = load_from_local(folder / f'iter_{iterations}.pth')
    assert state['meta']['iter'] == iterations
    losses = state['message_hub']['log_scalars']['train/loss'].data[0]
    assert len(losses) == iterations  # after a resume, those before it are still known
    assert all(loss > 0 for loss in losses)
    logs = sorted(folder.glob('*/*.log'))
    return logs[-1].read_text()


@pytest.mark.parametrize('name', CONFIGS)
def test_two_processes_train_ten_iterations_and_validate_and_one_resumes(
    run_tool, digit_scenes, folder, name
):
    config = config_path(f'segmentation/pspnet_{name}.py')
    command = ['dist_train.sh', config, 2, '--work-dir', folder]
    run = run_tool(*command, *arguments(options(digit_scenes, 10)))
    assert run.returncode == 0, run.stderr[-3000:]
    log = check_run(folder, 10)
    assert re.search(r'Iter\(val\) \[2/2\] +aAcc: .* mIoU: [\d.]+', log)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(Config.fromfile(config).model)
    count = sum(isinstance(m, torch.nn.SyncBatchNorm) for m in model.modules())
    assert f'{count} SyncBatchNorm layers are replaced by batch norm' in log

    apis.train(config, work_dir=folder, resume=True, cfg_options=options(digit_scenes, 12))
    log = check_run(folder, 12)
    assert 'resumed epoch: 0, iter: 10' in log
    # A single process has nobody to synchronise with, and mmengine takes plain batch norm.
    assert 'all SyncBatchNorm (SyncBN) layers in the model will be automatically reverted' in log


def test_a_checkpoint_is_tested_in_several_views_and_drawn(digit_scenes, tmp_path):
    config = Config.fromfile(config_path('segmentation/pspnet_shufflenetv2_0.5x_metaacon.py'))
    config.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        state = MODELS.build(config.model).state_dict()
    torch.save({'state_dict': state}, tmp_path / 'random.pth')
    found = apis.test(
        config,
        tmp_path / 'random.pth',
        work_dir=tmp_path / 'work',
        show_dir=tmp_path / 'pictures',
        out=tmp_path / 'maps',
        tta=True,
        cfg_options=options(digit_scenes, 10),
    )
    assert 0 <= found['mIoU'] <= 100
    names = sorted(path.name for path in (digit_scenes / 'leftImg8bit/val/digits').iterdir())
    drawn = sorted(os.listdir(tmp_path / 'pictures/vis_data/vis_image'))
    # After the name comes a number: 0, or that of the batch in the forks of OpenMMLab.
    assert [name.rpartition('_')[0] for name in drawn] == [f'test_{name}' for name in names]
    assert sorted(os.listdir(tmp_path / 'maps')) == names
    for name in names:
        label_map = cv2.imread(str(tmp_path / 'maps' / name), cv2.IMREAD_UNCHANGED)
        assert label_map.shape == (96, 96)
        assert label_map.max() < config.model.decode_head.num_classes


def test_a_run_from_a_checkpoint_of_another_activation_ends_in_a_sentence(
    digit_scenes, folder, tmp_path, monkeypatch
):
    classifier = Config.fromfile(config_path('classification/resnet18_metaacon_digits.py'))
    backbone = MODELS.build(classifier.model.backbone)
    state = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'metaacon.pth')
    monkeypatch.setenv('ACON_MM_PRETRAINED', str(tmp_path / 'metaacon.pth'))
    data = {f'{split}_dataloader.dataset.data_root': str(digit_scenes) for split in SPLITS}
    with pytest.raises(
        UserError, match=r'metaacon\.pth.*unexpected: layer1\.0\.act1\.p1'
    ) as error:
        apis.train(
            config_path('segmentation/pspnet_r18_relu_digits.py'),
            work_dir=folder,
            cfg_options=data | {'visualizer.name': f'visualizer_{next(VISUALIZERS)}'},
        )
    assert '\n' not in str(error.value)
    assert not list(folder.glob('*.pth'))
