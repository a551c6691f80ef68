"""Mistakes that people make in a config end in a line that names the key, before a run starts."""

import os
from pathlib import Path

import pytest
from mmengine.config import Config

from acon_mm.apis.config import load_checked_config
from acon_mm.errors import UserError

CONFIGS = Path(__file__).parents[2] / 'configs'
CLASSIFIER = 'classification/resnet18_metaacon_digits.py'
DETECTOR = 'detection/retinanet_r50_metaacon.py'
SEGMENTOR = 'segmentation/pspnet_r50_metaacon.py'
ANY = CLASSIFIER

# A config, the option that changes it, its value, and what the line has to name.
MISTAKES = [
    # A key at the top that nothing reads.
    (ANY, 'train_dataloder.batch_size', 4, 'did you mean train_dataloader'),
    (ANY, 'val_dataloaders.batch_size', 4, 'did you mean val_dataloader'),
    (ANY, 'traincfg.max_epochs', 4, 'did you mean train_cfg'),
    (ANY, 'optim_wraper.optimizer.lr', 0.1, 'did you mean optim_wrapper'),
    (ANY, 'param_schedulers', [], 'did you mean param_scheduler'),
    (ANY, 'default_hook.logger.interval', 1, 'did you mean default_hooks'),
    (ANY, 'custom_hook', [], 'did you mean custom_hooks'),
    (ANY, 'evn_cfg.cudnn_benchmark', True, 'did you mean env_cfg'),
    (ANY, 'workdir', 'x', 'did you mean work_dir'),
    (ANY, 'loadfrom', 'x.pth', 'did you mean load_from'),
    (ANY, 'auto_scalelr.enable', True, 'did you mean auto_scale_lr'),
    (ANY, 'randomnes.seed', 1, 'did you mean randomness'),
    # A variable of the file, which is read before options are merged.
    (ANY, 'max_epochs', 7, 'train_cfg.max_epochs'),
    (ANY, 'data_root', '/data', 'train_dataloader.dataset.data_root'),
    (DETECTOR, 'pretrained', 'x.pth', 'nothing reads any more'),
    (SEGMENTOR, 'max_iters', 7, 'train_cfg.max_iters'),
    (SEGMENTOR, 'crop_size', [64, 64], 'nothing reads any more'),
    (DETECTOR, 'scale', [64, 64], 'nothing reads any more'),
    (ANY, 'batch_size', 7, 'train_dataloader.batch_size'),
    (ANY, 'lr', 0.1, 'optim_wrapper.optimizer.lr'),
    # An argument that a loader does not have.
    (ANY, 'train_dataloader.batchsize', 4, 'did you mean batch_size'),
    (ANY, 'train_dataloader.samples_per_gpu', 4, 'train_dataloader.samples_per_gpu'),
    (ANY, 'train_dataloader.workers_per_gpu', 4, 'train_dataloader.workers_per_gpu'),
    (ANY, 'train_dataloader.num_worker', 4, 'did you mean num_workers'),
    (ANY, 'train_dataloader.shuffle_data', True, 'train_dataloader.shuffle_data'),
    (ANY, 'val_dataloader.persistant_workers', True, 'did you mean persistent_workers'),
    (ANY, 'test_dataloader.droplast', True, 'did you mean drop_last'),
    # An argument that a class does not have.
    (ANY, 'model.backbone.dept', 18, 'did you mean depth'),
    (ANY, 'model.backbone.num_stage', 4, 'model.backbone.num_stage'),
    (ANY, 'model.backbone.act_cfgs', {}, 'did you mean act_cfg'),
    (ANY, 'model.backbone.frozen_stage', 1, 'did you mean frozen_stages'),
    (ANY, 'model.backbone.norm_evaluation', True, 'model.backbone.norm_evaluation'),
    (ANY, 'model.heads', {}, 'did you mean head'),
    (ANY, 'model.backbones', {}, 'did you mean backbone'),
    (ANY, 'model.head.num_class', 3, 'did you mean num_classes'),
    (DETECTOR, 'model.bbox_head.num_class', 3, 'did you mean num_classes'),
    (DETECTOR, 'model.neck.out_channel', 3, 'did you mean out_channels'),
    (SEGMENTOR, 'model.decode_head.num_class', 3, 'did you mean num_classes'),
    (SEGMENTOR, 'model.decode_head.channel', 3, 'did you mean channels'),
    (DETECTOR, 'train_dataloader.dataset.annfile', 'x', 'did you mean ann_file'),
    (DETECTOR, 'train_dataloader.dataset.ann_files', 'x', 'did you mean ann_file'),
    (DETECTOR, 'train_dataloader.dataset.dataroot', 'x', 'did you mean data_root'),
    (DETECTOR, 'train_dataloader.dataset.piplines', [], 'did you mean pipeline'),
    (SEGMENTOR, 'train_dataloader.dataset.img_sufix', 'x', 'did you mean img_suffix'),
    (SEGMENTOR, 'train_dataloader.dataset.seg_map_sufix', 'x', 'did you mean seg_map_suffix'),
    (ANY, 'default_hooks.checkpoint.max_keep_ckpt', 1, 'did you mean max_keep_ckpts'),
    (ANY, 'default_hooks.checkpoint.savebest', 'auto', 'did you mean save_best'),
    (ANY, 'default_hooks.logger.intervall', 1, 'did you mean interval'),
    (ANY, 'default_hooks.health.intervals', 1, 'did you mean interval'),
    (ANY, 'train_cfg.max_epoch', 1, 'did you mean max_epochs'),
    (ANY, 'train_cfg.val_intervall', 1, 'did you mean val_interval'),
    (ANY, 'optim_wrapper.optimizer.weightdecay', 1, 'did you mean weight_decay'),
    (ANY, 'optim_wrapper.optimizer.momentum', 0.9, 'optim_wrapper.optimizer.momentum'),
    # A type that no library registers.
    (ANY, 'model.type', 'mmpretrain.ImageClassifer', 'did you mean ImageClassifier'),
    (ANY, 'model.backbone.type', 'acon_mm.AconResnet', 'did you mean AconResNet'),
    (ANY, 'model.backbone.type', 'AconResNett', 'did you mean AconResNet'),
    (ANY, 'model.backbone.act_cfg.type', 'acon_mm.MetaAconn', 'did you mean MetaAcon'),
    (ANY, 'model.backbone.act_cfg.type', 'acon_mm.Relu6x', 'model.backbone.act_cfg.type'),
    (DETECTOR, 'model.type', 'mmdet.RetinaNett', 'did you mean RetinaNet'),
    (DETECTOR, 'model.bbox_head.type', 'mmdet.RetinaHed', 'did you mean RetinaHead'),
    (DETECTOR, 'model.neck.type', 'mmdet.FPNN', 'model.neck.type'),
    (DETECTOR, 'train_dataloader.dataset.type', 'mmdet.CocoDataSet', 'CocoDataset'),
    (DETECTOR, 'train_dataloader.sampler.type', 'mmengine.DefaultSamplr', 'DefaultSampler'),
    (DETECTOR, 'val_evaluator.type', 'mmdet.CocoMetrics', 'did you mean CocoMetric'),
    (SEGMENTOR, 'model.decode_head.type', 'mmseg.PSPHed', 'did you mean PSPHead'),
    (SEGMENTOR, 'train_cfg.type', 'acon_mm.IterBasedLoop', 'IterBasedTrainLoop'),
    (ANY, 'optim_wrapper.optimizer.type', 'mmengine.Adamw', 'did you mean AdamW'),
    (ANY, 'optim_wrapper.type', 'mmengine.OptimWraper', 'did you mean OptimWrapper'),
    (ANY, 'default_hooks.checkpoint.type', 'CheckpointHok', 'did you mean CheckpointHook'),
    (ANY, 'visualizer.type', 'mmpretrain.UniversalVisualiser', 'UniversalVisualizer'),
    # A value of the wrong kind.
    (ANY, 'train_dataloader.batch_size', 0, 'an integer of 1 or more'),
    (ANY, 'train_dataloader.batch_size', '8', 'an integer of 1 or more'),
    (ANY, 'train_dataloader.batch_size', 2.5, 'an integer of 1 or more'),
    (ANY, 'train_dataloader.num_workers', -1, 'an integer of 0 or more'),
    (ANY, 'train_dataloader', [1], 'train_dataloader is [1]'),
    (ANY, 'train_cfg.max_epochs', 0, 'train_cfg.max_epochs is 0'),
    (ANY, 'train_cfg.max_epochs', 'many', "train_cfg.max_epochs is 'many'"),
    (ANY, 'train_cfg.val_interval', 0, 'train_cfg.val_interval is 0'),
    (ANY, 'optim_wrapper.optimizer.lr', '1e-3', 'a number of 0 or more'),
    (ANY, 'optim_wrapper.optimizer.lr', -0.1, 'a number of 0 or more'),
    (ANY, 'optim_wrapper.optimizer.lr', float('nan'), 'a number of 0 or more'),
    (ANY, 'optim_wrapper.accumulative_counts', 0, 'an integer of 1 or more'),
    (DETECTOR, 'model.bbox_head.num_classes', 0, 'model.bbox_head.num_classes is 0'),
    (DETECTOR, 'auto_scale_lr.base_batch_size', 0, 'auto_scale_lr.base_batch_size is 0'),
    (ANY, 'model.backbone.depth', 'x', 'model.backbone.depth'),
    (ANY, 'model.backbone.norm_eval', 'yes', 'model.backbone.norm_eval'),
    (ANY, 'model.backbone.type', 7, 'model.backbone.type is 7'),
]


@pytest.fixture(scope='module')
def configs():
    return {name: Config.fromfile(CONFIGS / name) for name in (CLASSIFIER, DETECTOR, SEGMENTOR)}


@pytest.mark.parametrize(
    ('config', 'option', 'value', 'named'), MISTAKES, ids=[f'{m[1]}={m[2]}' for m in MISTAKES]
)
def test_a_mistake_ends_in_a_line(configs, config, option, value, named):
    with pytest.raises(UserError) as error:
        load_checked_config(configs[config], {option: value})
    assert named in str(error.value)
    assert len(str(error.value)) < 500
    # Only the mistake is named.
    assert '\n' not in str(error.value) or 'max_epoch' in option


def test_all_mistakes_are_told_at_once(configs):
    options = {
        'train_dataloder.x': 1,
        'train_dataloader.batch_size': 0,
        'model.backbone.dept': 18,
        'train_cfg.max_epochs': 0,
    }
    with pytest.raises(UserError) as error:
        load_checked_config(configs[ANY], options)
    lines = str(error.value).splitlines()
    assert '4 faults' in lines[0]
    assert len(lines) == 5


@pytest.mark.parametrize(
    'name', sorted(p.relative_to(CONFIGS) for p in CONFIGS.glob('[a-z]*/*.py'))[::9]
)
def test_our_configs_have_no_faults(name):
    load_checked_config(CONFIGS / name)


def test_a_work_dir_that_cannot_be_one_is_named(configs, tmp_path):
    (tmp_path / 'file').touch()
    for work_dir in (tmp_path / 'file', tmp_path / 'file/below'):
        with pytest.raises(UserError, match='work_dir is'):
            load_checked_config(configs[ANY], work_dir=work_dir)
    if os.getuid():
        tmp_path.chmod(0o500)
        with pytest.raises(UserError, match='cannot be written to'):
            load_checked_config(configs[ANY], work_dir=tmp_path / 'new')
    load_checked_config(configs[ANY], work_dir=tmp_path)


@pytest.mark.parametrize('name', [CLASSIFIER, DETECTOR, SEGMENTOR])
def test_images_of_one_channel_with_three_means_are_named(configs, name):
    options = {'train_dataloader.dataset.pipeline.0.color_type': 'grayscale'}
    with pytest.raises(UserError, match=r'mean has 3 values, and .* loads images of 1 channel;'):
        load_checked_config(configs[name], options)


def test_images_of_as_many_channels_as_their_files_have_may_have_four_means(configs):
    load_checked_config(
        configs[DETECTOR],
        {
            'train_dataloader.dataset.pipeline.0.color_type': 'unchanged',
            'val_dataloader': None,
            'test_dataloader.dataset.pipeline.0.color_type': 'unchanged',
            'model.data_preprocessor.mean': [0.0] * 4,
        },
    )


def test_loaders_without_workers_drop_what_belongs_to_workers(configs):
    options = {'train_dataloader.num_workers': 0, 'train_dataloader.prefetch_factor': 2}
    loader = load_checked_config(configs[DETECTOR], options).train_dataloader
    assert loader.persistent_workers is False
    assert 'prefetch_factor' not in loader


@pytest.mark.parametrize('part', ['cfg', 'dataloader', 'evaluator'])
def test_without_one_part_of_a_validation_the_others_go(configs, part):
    cfg = load_checked_config(configs[ANY], {f'val_{part}': None})
    assert [cfg.val_cfg, cfg.val_dataloader, cfg.val_evaluator] == [None] * 3
    assert cfg.test_cfg is not None
