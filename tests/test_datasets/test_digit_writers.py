"""The three libraries' own loaders read what the writers wrote."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from acon_mm import config_path
from acon_mm.datasets.digit_scenes import BACKGROUND

CITYSCAPES_CLASSES = (
    'road sidewalk building wall fence pole traffic-light traffic-sign vegetation terrain sky'
)


def build_dataset(config, split, data_root):
    cfg = Config.fromfile(config_path(config))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = cfg[f'{split}_dataloader'].dataset
        return DATASETS.build(dict(dataset, data_root=str(data_root)))


@pytest.mark.parametrize(('split', 'length'), [('train', 12), ('val', 8)])
def test_coco_dataset_reads_the_scenes(small_build, split, length):
    dataset = build_dataset('detection/retinanet_r18_metaacon_digits.py', split, small_build)
    assert type(dataset).__module__ == 'mmdet.datasets.coco'
    assert len(dataset) == length
    assert dataset.metainfo['classes'] == tuple('0123456789')
    item = dataset[0]
    assert item['inputs'].shape == (3, 160, 160)
    path = small_build / 'annotations' / f'instances_{split}.json'
    annotations = [a for a in json.loads(path.read_text())['annotations'] if a['image_id'] == 1]
    instances = item['data_samples'].gt_instances
    assert instances.labels.tolist() == [a['category_id'] - 1 for a in annotations]
    for box, annotation in zip(instances.bboxes.tensor.tolist(), annotations, strict=True):
        x, y, width, height = annotation['bbox']
        assert box == [x, y, x + width, y + height]


@pytest.mark.parametrize(('split', 'length'), [('train', 30), ('val', 20)])
def test_custom_dataset_reads_the_crops(small_build, split, length):
    dataset = build_dataset(
        'classification/resnet18_metaacon_digits.py', split, small_build / 'imagenet'
    )
    assert type(dataset).__module__ == 'mmpretrain.datasets.custom'
    assert len(dataset) == length
    assert list(dataset.CLASSES) == list('0123456789')
    assert np.bincount(dataset.get_gt_labels()).tolist() == [length // 10] * 10
    assert dataset[0]['inputs'].shape == (3, 48, 48)


def test_imagenet_dataset_reads_the_crops(small_build):
    from mmpretrain.datasets import ImageNet

    dataset = ImageNet(
        data_root=str(small_build / 'imagenet'),
        data_prefix='val',
        split='',
        metainfo={'classes': tuple('0123456789')},
    )
    assert len(dataset) == 20
    assert sorted(set(dataset.get_gt_labels().tolist())) == list(range(10))


def cityscapes(small_build, split):
    from mmseg.datasets import CityscapesDataset

    return CityscapesDataset(
        data_root=str(small_build),
        data_prefix={'img_path': f'leftImg8bit/{split}', 'seg_map_path': f'gtFine/{split}'},
        metainfo={'classes': [name.replace('-', ' ') for name in CITYSCAPES_CLASSES.split()]},
        pipeline=[
            {'type': 'mmseg.LoadImageFromFile'},
            {'type': 'mmseg.LoadAnnotations'},
            {'type': 'mmseg.PackSegInputs'},
        ],
    )


@pytest.mark.parametrize(('split', 'length'), [('train', 12), ('val', 8)])
def test_cityscapes_dataset_reads_the_label_maps_unchanged(small_build, split, length):
    dataset = cityscapes(small_build, split)
    assert len(dataset) == length
    for index in range(length):
        item = dataset[index]
        label_map = item['data_samples'].gt_sem_seg.data.numpy()[0]
        raw = cv2.imread(dataset.get_data_info(index)['seg_map_path'], cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(label_map, raw)
        assert set(np.unique(raw).tolist()) <= set(range(BACKGROUND + 1))


@pytest.mark.parametrize('split', ['train', 'val'])
def test_label_maps_agree_with_the_boxes(small_build, split):
    coco = json.loads((small_build / 'annotations' / f'instances_{split}.json').read_text())
    maps = sorted(small_build.glob(f'gtFine/{split}/*/*_gtFine_labelTrainIds.png'))
    for image, path in zip(coco['images'], maps, strict=True):
        label_map = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        annotations = [a for a in coco['annotations'] if a['image_id'] == image['id']]
        assert {a['category_id'] - 1 for a in annotations} | {BACKGROUND} == set(
            np.unique(label_map).tolist()
        )
        ink = label_map != BACKGROUND
        for x, y, width, height in (a['bbox'] for a in annotations):
            ink[y : y + height, x : x + width] = False
        assert not ink.any()


@pytest.mark.parametrize('split', ['train', 'val'])
def test_both_layouts_show_the_same_images(small_build, split):
    coco = sorted(small_build.glob(f'images/{split}/*.png'))
    cityscapes = sorted(small_build.glob(f'leftImg8bit/{split}/*/*_leftImg8bit.png'))
    assert [p.read_bytes() for p in coco] == [p.read_bytes() for p in cityscapes]
