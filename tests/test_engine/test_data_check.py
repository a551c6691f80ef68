import pytest
from mmengine.config import Config
from mmengine.model import PretrainedInit
from mmpretrain.datasets import ImageNet

from acon_mm.engine.data_check import check_checkpoints, check_data, needed_data
from acon_mm.errors import UserError

COCO = {
    'type': 'mmdet.CocoDataset',
    'data_root': 'data/coco/',
    'ann_file': 'annotations/instances_val2017.json',
    'data_prefix': {'img': 'val2017/'},
}
CITYSCAPES = {
    'type': 'mmseg.CityscapesDataset',
    'data_root': 'data/cityscapes/',
    'data_prefix': {'img_path': 'leftImg8bit/val', 'seg_map_path': 'gtFine/val'},
}
IMAGENET = {'type': 'mmpretrain.ImageNet', 'data_root': 'data/imagenet', 'split': 'val'}


def config(dataset, **kwargs):
    return Config({'test_dataloader': {'dataset': dataset}, **kwargs})


def sentence(cfg, splits=('test',)):
    with pytest.raises(UserError) as error:
        check_data(cfg, splits)
    assert '\n' not in str(error.value)
    return str(error.value)


def make(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ('dataset', 'key', 'path', 'layout'),
    [
        (COCO, 'ann_file', 'data/coco/annotations/instances_val2017.json', 'instances_{train2017'),
        (CITYSCAPES, 'data_prefix.img_path', 'data/cityscapes/leftImg8bit/val', 'gtFine/{train'),
        (IMAGENET, 'split', 'data/imagenet/val', 'one folder of images per class'),
    ],
)
def test_missing_data_is_named_with_its_key_and_layout(folder, dataset, key, path, layout):
    message = sentence(config(dataset))
    assert f'test_dataloader.dataset.{key} points to {path!r}' in message
    assert str(folder) in message  # a relative path says where it was looked for
    assert layout in message


def test_each_missing_path_is_found_in_turn(folder):
    cfg = config(COCO)
    make(folder / 'data/coco/annotations/instances_val2017.json')
    assert 'test_dataloader.dataset.data_prefix.img points to' in sentence(cfg)
    make(folder / 'data/coco/val2017/1.jpg')
    check_data(cfg, ('test',))

    cfg.test_evaluator = [{'type': 'mmdet.CocoMetric', 'ann_file': 'data/coco/other.json'}]
    assert 'test_evaluator.0.ann_file points to' in sentence(cfg)


@pytest.mark.parametrize(
    ('wrapped', 'key'),
    [
        ({'type': 'RepeatDataset', 'times': 2, 'dataset': COCO}, 'dataset.dataset.ann_file'),
        (
            {'type': 'ConcatDataset', 'datasets': [{'dataset': COCO}]},
            'dataset.datasets.0.dataset.ann_file',
        ),
    ],
)
def test_wrapped_datasets_are_looked_into(wrapped, key):
    assert f'test_dataloader.{key} points to' in sentence(config(wrapped))


def test_only_the_splits_that_run_are_checked():
    cfg = config(COCO, train_dataloader={'dataset': IMAGENET})
    assert 'train_dataloader' in sentence(cfg, ('train',))
    check_data(cfg, ('val',))


def test_data_on_another_machine_is_left_alone():
    check_data(config({**COCO, 'data_root': 's3://bucket/coco/'}), ('test',))
    check_data(config({**COCO, 'backend_args': {'backend': 'petrel'}}), ('test',))
    metric = {'type': 'mmdet.CocoMetric', 'ann_file': 'elsewhere.json', 'backend_args': {'a': 1}}
    check_data(Config({'test_evaluator': [metric]}), ('test',))


def test_a_home_is_expanded_where_the_library_expands_it(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder))
    make(folder / 'data/coco/annotations/instances_val2017.json', folder / 'data/coco/val2017/a')
    make(folder / 'val.txt', folder / 'a.pth')
    assert '~/data/coco' in sentence(config({**COCO, 'data_root': '~/data/coco'}))
    check_data(
        config({'type': 'mmpretrain.ImageNet', 'data_root': 'data', 'ann_file': '~/val.txt'}),
        ('test',),
    )
    check_checkpoints(Config({'load_from': '~/a.pth'}))


def test_an_absolute_path_is_not_joined_with_the_root(folder):
    ann_file = folder / 'mine.json'
    cfg = config({**COCO, 'ann_file': str(ann_file)})
    assert next(needed.path for needed in needed_data(cfg, ('test',))) == str(ann_file)


def test_missing_digit_scenes_come_with_the_command_that_makes_them():
    dataset = {**COCO, 'data_root': 'data/digit_scenes/'}
    assert 'make_digit_scenes.py --out data/digit_scenes' in sentence(config(dataset))


@pytest.mark.parametrize(
    ('cfg', 'key', 'option'),
    [
        ({'load_from': 'gone.pth'}, 'load_from is', 'load_from=None'),
        (
            {
                'model': {
                    'module': {
                        'backbone': {'init_cfg': {'type': 'Pretrained', 'checkpoint': 'gone.pth'}}
                    }
                }
            },
            'model.module.backbone.init_cfg.checkpoint is',
            'model.module.backbone.init_cfg=None',
        ),
    ],
)
def test_a_missing_start_is_named_with_the_way_around_it(folder, cfg, key, option):
    with pytest.raises(UserError, match=key) as error:
        check_checkpoints(Config(cfg))
    assert option in str(error.value)
    make(folder / 'gone.pth')
    check_checkpoints(Config(cfg))


def test_what_fills_the_model_takes_the_place_of_a_missing_backbone(folder):
    make(folder / 'whole.pth', folder / 'there.pth')
    gone, there = ({'type': 'Pretrained', 'checkpoint': f'{x}.pth'} for x in ('gone', 'there'))
    model = {
        'backbone': {'type': 'A', 'init_cfg': gone},
        'neck': {'init_cfg': [there, gone]},
        'head': {'init_cfg': there},
    }
    cfg = Config({'load_from': 'whole.pth', 'model': model})
    check_checkpoints(cfg)
    assert cfg.model.to_dict() == {
        'backbone': {'type': 'A'},
        'neck': {'init_cfg': [there]},
        'head': {'init_cfg': there},
    }


def test_types_may_be_classes():
    init_cfg = {'type': PretrainedInit, 'checkpoint': 'gone.pth'}
    with pytest.raises(UserError, match=r'model\.init_cfg\.checkpoint is'):
        check_checkpoints(Config({'model': {'init_cfg': init_cfg}}))
    assert 'one folder of images per class' in sentence(config({**IMAGENET, 'type': ImageNet}))


def test_a_start_from_elsewhere_is_left_alone():
    check_checkpoints(Config({'load_from': 'https://host/a.pth'}))
    init_cfg = {'type': 'Pretrained', 'checkpoint': 'torchvision://resnet50'}
    check_checkpoints(Config({'model': {'backbone': {'init_cfg': [init_cfg]}}}))
