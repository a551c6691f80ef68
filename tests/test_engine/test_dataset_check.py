"""Faulty data is told with its files, all at once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from acon_mm.engine.dataset_check import check_dataset, dataset_faults, fault_lines
from acon_mm.errors import UserError


def coco(root, **changes):
    dataset = {
        'type': 'mmdet.CocoDataset',
        'data_root': str(root),
        'ann_file': 'annotations/instances_train.json',
        'data_prefix': {'img': 'images/train/'},
        'metainfo': {'classes': tuple('0123456789')},
        **changes,
    }
    return Config({'train_dataloader': {'dataset': dataset}})


def cityscapes(root, num_classes=11):
    dataset = {
        'type': 'mmseg.CityscapesDataset',
        'data_root': str(root),
        'data_prefix': {'img_path': 'leftImg8bit/train', 'seg_map_path': 'gtFine/train'},
    }
    head = {'decode_head': {'num_classes': num_classes}}
    return Config({'train_dataloader': {'dataset': dataset}, 'model': head})


def classes(root, num_classes=10):
    loaders = {
        f'{split}_dataloader': {
            'dataset': {
                'type': 'mmpretrain.CustomDataset',
                'data_root': str(root / 'imagenet'),
                'data_prefix': split,
            }
        }
        for split in ('train', 'val')
    }
    return Config({**loaders, 'model': {'head': {'num_classes': num_classes}}})


def annotated(change):
    """Change the json of a copy."""

    def apply(root):
        path = root / 'annotations/instances_train.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def box(*values):
    return annotated(lambda content: content['annotations'][0].update(bbox=list(values)))


def corners(content):
    for annotation in content['annotations']:
        image = next(i for i in content['images'] if i['id'] == annotation['image_id'])
        annotation['bbox'] = [image['width'] - 20, image['height'] - 20, image['width'] - 1, 95]


def first(root, pattern):
    return sorted(root.glob(pattern))[0]


def written(pattern, content):
    return lambda root: first(root, pattern).write_bytes(content)


def cut(pattern):
    def apply(root):
        path = first(root, pattern)
        path.write_bytes(path.read_bytes()[:200])

    return apply


def drawn(pattern, shape, value=0):
    array = np.full(shape, value, np.uint8)
    return lambda root: Image.fromarray(array).save(first(root, pattern))


SCENE, CROP = 'images/train/*', 'imagenet/train/*/*'
PHOTO, MASK = 'leftImg8bit/train/*/*', 'gtFine/train/*/*labelTrainIds.png'
# A config, what is done to the data, and the kind that is told; `!` where a run goes on.
FAULTS = {
    'coco_json_cut': (coco, cut('annotations/instances_train.json'), 'no annotations in the'),
    'coco_json_list': (coco, written('annotations/instances_train.json', b'[]'), 'no annotations'),
    'coco_no_images': (coco, annotated(lambda c: c.pop('images')), 'no annotations in the'),
    'coco_image_twice': (
        coco,
        annotated(lambda c: c['images'].append(c['images'][0])),
        'image ids that occur twice',
    ),
    'coco_annotation_twice': (
        coco,
        annotated(lambda c: c['annotations'].append(c['annotations'][0])),
        'annotation ids that occur twice',
    ),
    'coco_of_no_image': (
        coco,
        annotated(lambda c: c['annotations'][0].update(image_id=99999)),
        'annotations of no image',
    ),
    'coco_of_no_category': (
        coco,
        annotated(lambda c: c['annotations'][0].update(category_id=77)),
        'annotations of no category',
    ),
    'coco_name': (
        coco,
        annotated(lambda c: c['categories'][0].update(name='zero')),
        "classes of the config that the annotations do not have (1): '0'",
    ),
    'coco_more_names': (
        coco,
        annotated(lambda c: c['categories'].append({'id': 50, 'name': 'bolt'})),
        "!categories that the config does not name (1): 'bolt'",
    ),
    'coco_nan_box': (coco, box(float('nan'), 1, 2, 3), 'boxes that are not finite'),
    'coco_infinite_box': (coco, box(float('inf'), 1, 2, 3), 'boxes that are not finite'),
    'coco_short_box': (coco, box(1, 2, 3), 'annotations without a box of four numbers'),
    'coco_text_box': (coco, box('a', 1, 2, 3), 'boxes that are not finite'),
    'coco_flat_box': (coco, box(1, 1, 0, 5), '!boxes without area'),
    'coco_negative_box': (coco, box(5, 5, -2, 5), '!boxes without area'),
    'coco_outside_box': (coco, box(5000, 5, 10, 10), '!boxes outside of the image'),
    'coco_left_box': (coco, box(-50, 5, 60, 10), '!boxes that reach out of the image'),
    'coco_corners': (coco, annotated(corners), 'would fit as x1, y1, x2, y2'),
    'coco_missing': (coco, lambda root: first(root, SCENE).unlink(), 'images that are missing'),
    'coco_empty': (coco, written(SCENE, b''), 'images that are empty files'),
    'coco_html': (coco, written(SCENE, b'<html>moved</html>'), 'files that are no images'),
    'coco_cut': (coco, cut(SCENE), 'images that are damaged or cut short'),
    'coco_size': (coco, drawn(SCENE, (7, 9, 3)), '(9×7 instead of 96×96)'),
    'city_no_mask': (cityscapes, lambda root: first(root, MASK).unlink(), 'images without a mask'),
    'city_no_image': (
        cityscapes,
        lambda root: first(root, PHOTO).unlink(),
        '!masks without an image',
    ),
    'city_no_images': (
        cityscapes,
        lambda root: shutil.rmtree(root / 'leftImg8bit/train'),
        "no image ends in '_leftImg8bit.png'",
    ),
    'city_value': (cityscapes, drawn(MASK, (96, 96), 77), 'masks with values above 10 that are'),
    'city_colours': (cityscapes, drawn(MASK, (96, 96, 3)), 'masks with colours instead'),
    'city_size': (cityscapes, drawn(MASK, (50, 60)), 'masks of another size than the image'),
    'city_cut_mask': (cityscapes, cut(MASK), 'images that are damaged or cut short'),
    'city_empty': (cityscapes, written(PHOTO, b''), 'images that are empty files'),
    'classes_cut': (classes, cut(CROP), 'images that are damaged or cut short'),
    'classes_html': (classes, written(CROP, b'<html>'), 'files that are no images'),
    'classes_empty_file': (classes, written(CROP, b''), 'images that are empty files'),
    'classes_val_lacks': (
        classes,
        lambda root: shutil.rmtree(first(root, 'imagenet/val/*')),
        'class folders in only one of train and val',
    ),
    'classes_more': (
        classes,
        lambda root: (root / 'imagenet/train/extra').mkdir(),
        'train_dataloader has 11 class folders and the head num_classes=10',
    ),
    'classes_empty_folder': (
        classes,
        lambda root: [path.unlink() for path in first(root, 'imagenet/train/*').iterdir()],
        '!class folders without an image',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_told_with_its_file(digit_scenes, tmp_path, fault):
    make, spoil, told = FAULTS[fault]
    root = tmp_path / 'data'
    shutil.copytree(digit_scenes, root)
    assert not fault_lines(dataset_faults(make(root), ('train', 'val'), read_images=True))
    spoil(root)
    faults = list(dataset_faults(make(root), ('train', 'val'), read_images=True))
    text = '\n'.join(fault_lines(faults))
    assert told.lstrip('!') in text
    assert any(fault.is_fatal for fault in faults) != told.startswith('!')
    if 'name' not in fault and fault != 'city_no_images':
        assert (
            any(Path(word.rstrip(',:')).is_absolute() for word in text.split()) or 'class' in fault
        )


def test_before_a_run_all_faults_are_told_at_once_and_no_image_is_opened(digit_scenes, tmp_path):
    root = tmp_path / 'data'
    shutil.copytree(digit_scenes, root)
    FAULTS['coco_flat_box'][1](root)
    cut(SCENE)(root)
    (line,) = check_dataset(coco(root), ('train',))
    assert line.startswith('boxes without area (1): annotation')
    FAULTS['coco_missing'][1](root)
    FAULTS['coco_name'][1](root)
    with pytest.raises(UserError) as error:
        check_dataset(coco(root), ('train',))
    assert len(str(error.value).splitlines()) == 3


def test_classes_as_a_string_are_named(digit_scenes):
    cfg = coco(digit_scenes, metainfo={'classes': 'bolt'})
    with pytest.raises(UserError, match="it has to be a tuple \\(1\\): 'bolt'"):
        check_dataset(cfg, ('train',))


@pytest.mark.parametrize(
    ('num_classes', 'metainfo', 'told'),
    [
        (9, {'classes': tuple('0123456789')}, 'num_classes=9 and the data set 10 classes'),
        (10, {}, 'num_classes=10 and the data set 80 classes'),
        (10, {'classes': tuple('0123456789')}, None),
        (80, {}, None),
        (256, {}, 'num_classes=256 and the data set 80 classes'),
    ],
)
def test_a_head_of_another_number_of_classes_is_told(digit_scenes, num_classes, metainfo, told):
    cfg = coco(digit_scenes, metainfo=metainfo)
    cfg.model = {'bbox_head': {'num_classes': num_classes}}
    faults = list(dataset_faults(cfg, ('train',)))
    lines = fault_lines(faults)
    assert bool(lines) == bool(told)
    assert any(fault.is_fatal for fault in faults) == (bool(told) and num_classes < 80)
    assert not told or told in lines[0]
