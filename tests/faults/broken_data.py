"""Faults of data sets: how each is made and the words that it has to be told with."""

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.config import Config
from PIL import Image

CLASSES = ('bolt', 'nut')
WIDTH, HEIGHT = 40, 30
# More than ten boxes, so that one of another format is a slip.
NUM_IMAGES, NUM_BOXES = 4, 3

JSON, SCENE = 'coco/train.json', 'coco/train/0.png'
CROP, LIST = 'classes/train/bolt/0.png', 'classes/train.txt'
PHOTO = 'city/leftImg8bit/train/aachen/0_leftImg8bit.png'
MASK = 'city/gtFine/train/aachen/0_gtFine_labelTrainIds.png'
NAMES = 'city/train.txt'


def make_data(root):
    """Write the three data sets without a fault."""
    scene = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    labels = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 4
    labels[labels == 3] = 255
    content = {
        'images': [
            {'id': i, 'file_name': f'{i}.png', 'width': WIDTH, 'height': HEIGHT}
            for i in range(NUM_IMAGES)
        ],
        'annotations': [
            {
                'id': number,
                'image_id': number // NUM_BOXES,
                'category_id': number % 2 + 1,
                'bbox': [3, 4, 10, 12],
                'area': 120,
                'iscrowd': 0,
            }
            for number in range(NUM_IMAGES * NUM_BOXES)
        ],
        'categories': [{'id': i, 'name': name} for i, name in enumerate(CLASSES, 1)],
    }
    for index in range(NUM_IMAGES):
        draw(root / f'coco/train/{index}.png', scene)
    for index in range(2):
        draw(root / PHOTO.replace('0_', f'{index}_'), scene)
        draw(root / MASK.replace('0_', f'{index}_'), labels)
        for folder in ('train', 'val'):
            for name in CLASSES:
                draw(root / f'classes/{folder}/{name}/{index}.png', scene)
    (root / JSON).write_text(json.dumps(content))
    (root / LIST).write_text('bolt/0.png 0\nnut/0.png 1\n')
    (root / NAMES).write_text('aachen/0\naachen/1\n')


def draw(path, array):
    """Save an array as an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def coco(root, **changes):
    dataset = {
        'type': 'mmdet.CocoDataset',
        'data_root': str(root / 'coco'),
        'ann_file': 'train.json',
        'data_prefix': {'img': 'train/'},
        'metainfo': {'classes': CLASSES},
        'filter_cfg': {'filter_empty_gt': True, 'min_size': 16},
        **changes,
    }
    head = {'bbox_head': {'num_classes': 2}}
    return Config({'train_dataloader': {'dataset': dataset}, 'model': head})


def city(root, **changes):
    dataset = {
        'type': 'mmseg.CityscapesDataset',
        'data_root': str(root / 'city'),
        'data_prefix': {'img_path': 'leftImg8bit/train', 'seg_map_path': 'gtFine/train'},
        **changes,
    }
    head = {'decode_head': {'num_classes': 3}}
    return Config({'train_dataloader': {'dataset': dataset}, 'model': head})


def classes(root, num_classes=2, **changes):
    loaders = {
        f'{split}_dataloader': {
            'dataset': {
                'type': 'mmpretrain.CustomDataset',
                'data_root': str(root / 'classes'),
                'data_prefix': split,
                **changes,
            }
        }
        for split in ('train', 'val')
    }
    return Config({**loaders, 'model': {'head': {'num_classes': num_classes}}})


def listed(root, **changes):
    return classes(root, data_prefix='train', ann_file='train.txt', **changes)


def with_(make, **changes):
    return lambda root: make(root, **changes)


def nothing(root):
    pass


def annotated(change):
    """Change the json."""

    def apply(root):
        content = json.loads((root / JSON).read_text())
        change(content)
        (root / JSON).write_text(json.dumps(content))

    return apply


def without(entries, key):
    """Take a key out of an entry of the json."""
    return annotated(lambda content: content[entries][0].pop(key))


def changed(entries, **values):
    """Change an entry of the json."""
    return annotated(lambda content: content[entries][0].update(values))


def again(entries, **values):
    """Append an entry of the json once more, with other values."""
    return annotated(lambda content: content[entries].append({**content[entries][0], **values}))


def all_boxes(*box, **values):
    """Give all annotations one box."""

    def change(content):
        for annotation in content['annotations']:
            annotation.update(bbox=list(box), **values)

    return annotated(change)


def box(*values, **others):
    return changed('annotations', bbox=list(values), **others)


def written(name, content):
    return lambda root: (root / name).write_bytes(content)


def cut(name, share=0.5):
    def apply(root):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * share)])

    return apply


def flipped(name):
    """Change a byte in the middle of a file."""

    def apply(root):
        content = bytearray((root / name).read_bytes())
        content[len(content) // 2] ^= 0xFF
        (root / name).write_bytes(content)

    return apply


def drawn(name, *shape, value=0, dtype=np.uint8, **options):
    """Save an image of one value in the place of another, in the format of its suffix."""
    array = np.full(shape or (HEIGHT, WIDTH), value, dtype)
    return lambda root: Image.fromarray(array).save(root / name, **options)


def removed(name):
    def apply(root):
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return apply


def moved(name, other):
    def apply(root):
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (root / name).rename(root / other)

    return apply


def linked(name, target='/nowhere/0.png'):
    def apply(root):
        (root / name).unlink()
        (root / name).symlink_to(target)

    return apply


def linked_folder(name, other):
    """Move a folder and leave a link to it."""

    def apply(root):
        moved(name, other)(root)
        (root / name).symlink_to(root / other)

    return apply


def folder_instead(name):
    def apply(root):
        (root / name).unlink()
        (root / name).mkdir()

    return apply


def file_instead(name):
    def apply(root):
        shutil.rmtree(root / name)
        (root / name).touch()

    return apply


def emptied(name):
    def apply(root):
        shutil.rmtree(root / name)
        (root / name).mkdir()

    return apply


def added(name, content=b'text'):
    def apply(root):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return apply


def both(*steps):
    return lambda root: [step(root) for step in steps]


def turned(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn(SCENE, HEIGHT, WIDTH, 3, exif=exif)(root)


def huge(root):
    """Write a png that says it has 60000 × 60000 pixels."""
    header = b'IHDR' + struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header))
    (root / SCENE).write_bytes(b'\x89PNG\r\n\x1a\n' + chunk + struct.pack('>I', 9) + b'IDAT')


def without_numbers(mask):
    """Leave one class out of all masks."""

    def apply(root):
        for path in (root / 'city/gtFine').rglob('*.png'):
            values = np.asarray(Image.open(path)).copy()
            values[values == mask] = 0
            draw(path, values)

    return apply


def saved_as_jpeg(root):
    for path in sorted((root / 'city/gtFine').rglob('*.png')):
        Image.open(path).save(path.with_suffix('.jpg'))
        path.unlink()


def colour_table(root):
    image = Image.open(root / MASK).convert('P')
    image.putdata(list(np.asarray(Image.open(root / MASK)).ravel()))
    image.putpalette([0, 0, 0, 255, 0, 0] * 128)
    image.save(root / MASK)


class DataFault(NamedTuple):
    """A fault of a data set.

    Attributes:
        name: What is wrong, for people.
        config: Makes the config of the run, given the folder of the data.
        spoil: Makes the fault, given the folder of the data.
        told: Words of the sentence; after ``!`` those of a warning of a run that goes on, and
            nothing where it has to go on without a word.
    """

    name: str
    config: Callable[[Path], Config]
    spoil: Callable[[Path], object]
    told: str


_HTML = b'<!DOCTYPE html><html>moved</html>'
_NO_JSON = 'annotations that are no json, or cut short'
_DAMAGED = 'images that are damaged or cut short'
_TEXT_CLASSES = with_(coco, metainfo={'classes': 'bolt'})
_BASE_SEG = {'type': 'mmseg.BaseSegDataset', 'seg_map_suffix': '_gtFine_labelTrainIds.png'}
_JPEG_MASKS = with_(city, seg_map_suffix='_gtFine_labelTrainIds.jpg')
_FULL_IMAGENET = with_(classes, num_classes=1000, type='mmpretrain.ImageNet')

DATA_FAULTS = [
    DataFault(*row)
    for row in (
        # The json of a detector.
        ('json missing', coco, removed(JSON), 'ann_file points to'),
        ('json is a folder', coco, folder_instead(JSON), 'annotations that cannot be read'),
        ('json is a broken link', coco, linked(JSON), 'ann_file points to'),
        ('json empty', coco, written(JSON, b''), _NO_JSON),
        ('json cut short', coco, cut(JSON), _NO_JSON),
        ('json is an HTML page', coco, written(JSON, _HTML), _NO_JSON),
        ('json is a zip file', coco, written(JSON, b'PK\x03\x04\xff\xfe'), 'that are no text'),
        ('json with a list at its top', coco, written(JSON, b'[]'), 'whose json is no dict'),
        ('json with a text at its top', coco, written(JSON, b'"x"'), 'whose json is no dict'),
        ('json is empty at its top', coco, written(JSON, b'{}'), 'without a list of images'),
        ('no images', coco, annotated(lambda c: c.pop('images')), 'without a list of images'),
        ('images not a list', coco, annotated(lambda c: c.update(images={})), 'list of images'),
        ('image is a text', coco, annotated(lambda c: c['images'].append('a')), 'are no dicts'),
        ('images empty', coco, annotated(lambda c: c['images'].clear()), 'empty list of images'),
        (
            'no annotations',
            coco,
            annotated(lambda c: c.pop('annotations')),
            'without a list of annotations',
        ),
        (
            'annotations empty',
            coco,
            annotated(lambda c: c['annotations'].clear()),
            'without a box of any class',
        ),
        (
            'no categories',
            coco,
            annotated(lambda c: c.pop('categories')),
            'without a list of categories',
        ),
        (
            'categories empty',
            coco,
            annotated(lambda c: c['categories'].clear()),
            'empty list of categories',
        ),
        ('image without id', coco, without('images', 'id'), 'images without id'),
        ('image without file_name', coco, without('images', 'file_name'), 'without file_name'),
        ('image without width', coco, without('images', 'width'), 'images without width'),
        ('image of height 0', coco, changed('images', height=0), 'whose height is below 1'),
        ('image of width "640"', coco, changed('images', width='640'), 'width is no number'),
        ('annotation without id', coco, without('annotations', 'id'), 'annotations without id'),
        (
            'annotation without image_id',
            coco,
            without('annotations', 'image_id'),
            'annotations without image_id',
        ),
        (
            'annotation without category_id',
            coco,
            without('annotations', 'category_id'),
            'annotations without category_id',
        ),
        (
            'annotation without bbox',
            coco,
            without('annotations', 'bbox'),
            'annotations without bbox',
        ),
        (
            'annotation without area',
            coco,
            without('annotations', 'area'),
            'annotations without area',
        ),
        (
            'annotation with null for its category',
            coco,
            changed('annotations', category_id=None),
            'category_id is no number and no text',
        ),
        ('category without id', coco, without('categories', 'id'), 'categories without id'),
        ('category without name', coco, without('categories', 'name'), 'categories without name'),
        ('image id twice', coco, again('images', file_name='x.png'), 'images whose id occurs'),
        ('annotation id twice', coco, again('annotations'), 'annotations whose id occurs twice'),
        ('category id twice', coco, again('categories', name='x'), 'categories whose id occurs'),
        ('category name twice', coco, again('categories', id=9), 'categories whose name occurs'),
        ('file listed twice', coco, again('images', id=77), '!images whose file_name occurs'),
        (
            'annotation of no image',
            coco,
            changed('annotations', image_id=999),
            'annotations of no image',
        ),
        (
            'image_id as a text',
            coco,
            changed('annotations', image_id='0'),
            "train.json (image_id '0')",
        ),
        (
            'annotation of no category',
            coco,
            changed('annotations', category_id=0),
            'annotations of no category',
        ),
        # Classes.
        (
            'class with another capital letter',
            with_(coco, metainfo={'classes': ('Bolt', 'nut')}),
            nothing,
            "'Bolt', did you mean 'bolt'?",
        ),
        (
            'class that the json does not have',
            with_(coco, metainfo={'classes': ('bolt', 'washer')}),
            nothing,
            "annotations do not have (1): 'washer'",
        ),
        (
            'category that the config does not name',
            coco,
            again('categories', id=9, name='washer'),
            "!categories that the config does not name (1): 'washer'",
        ),
        ('classes as a text', _TEXT_CLASSES, nothing, 'is a string; it has to be a tuple'),
        (
            'classes under their old name',
            with_(coco, metainfo={'CLASSES': CLASSES}),
            nothing,
            'write metainfo.classes',
        ),
        ('no classes in the config', with_(coco, metainfo={}), nothing, 'set metainfo.classes'),
        (
            'classes in another order than the json',
            with_(coco, metainfo={'classes': ('nut', 'bolt')}),
            nothing,
            '!in another order than the categories',
        ),
        (
            'head with fewer classes than the data',
            with_(coco, metainfo={'classes': (*CLASSES, 'washer')}),
            again('categories', id=9, name='washer'),
            'num_classes=2 and the data set 3 classes',
        ),
        # Boxes.
        ('box with NaN', coco, box(float('nan'), 1, 2, 3), 'boxes that are not finite'),
        ('box with infinity', coco, box(1, 1, float('inf'), 3), 'boxes that are not finite'),
        ('box with a text', coco, box('a', 1, 2, 3), 'boxes that are not finite'),
        ('box of three numbers', coco, box(1, 2, 3), 'without a box of four numbers'),
        ('box is null', coco, changed('annotations', bbox=None), 'without a box of four'),
        ('box without width', coco, box(1, 1, 0, 5), '!boxes without area'),
        ('box with negative width', coco, box(9, 9, -2, 5), '!boxes without area'),
        ('box of area 0', coco, changed('annotations', area=0), '!boxes without area'),
        ('box outside', coco, box(900, 5, 10, 10), '!boxes outside of the image'),
        (
            'box that reaches out',
            coco,
            box(-9, 5, 20, 10),
            '!boxes that reach out of the image (1)',
        ),
        ('box below a pixel', coco, box(9, 9, 0.5, 5), '!boxes of less than a pixel'),
        ('one box as corners', coco, box(20, 15, 38, 28), '!would fit as x1, y1, x2, y2'),
        ('all boxes as corners', coco, all_boxes(20, 15, 38, 28), 'would fit as x1, y1, x2, y2'),
        ('boxes as fractions', coco, all_boxes(0.2, 0.2, 0.3, 0.4), 'as fractions of the image'),
        # What is filtered.
        (
            'image without boxes',
            coco,
            again('images', id=77, file_name='./0.png'),
            '!images that filter_cfg leaves out',
        ),
        (
            'all images smaller than min_size',
            with_(coco, filter_cfg={'min_size': 500}),
            nothing,
            'leaves out all 4 images',
        ),
        (
            'all boxes of other classes',
            with_(coco, metainfo={'classes': CLASSES}),
            annotated(
                lambda c: (
                    c['categories'].append({'id': 9, 'name': 'washer'}),
                    [a.update(category_id=9) for a in c['annotations']],
                )
            ),
            'without a box of any class of the config',
        ),
        # The images of a detector.
        ('image folder missing', coco, removed('coco/train'), 'data_prefix.img points to'),
        ('image folder is a file', coco, file_instead('coco/train'), 'that are no folders'),
        ('image folder empty', coco, emptied('coco/train'), 'images that are missing (4)'),
        ('data_root missing', coco, removed('coco'), 'ann_file points to'),
        ('image missing', coco, removed(SCENE), 'images that are missing'),
        ('image with another suffix', coco, moved(SCENE, 'coco/train/0.JPG'), 'there is 0.JPG'),
        ('image is a broken link', coco, linked(SCENE), 'images that are links to nothing'),
        ('image is a folder', coco, folder_instead(SCENE), 'images that are folders'),
        ('image empty', coco, written(SCENE, b''), 'images that are empty files'),
        ('image is an HTML page', coco, written(SCENE, _HTML), 'files that are no images'),
        ('image is text', coco, written(SCENE, b'\x00' * 99), 'files that are no images'),
        ('image cut short', coco, cut(SCENE), _DAMAGED),
        ('image cut in its head', coco, cut(SCENE, 0.02), 'files that are no images'),
        ('image with a changed byte', coco, flipped(SCENE), _DAMAGED),
        ('image of 60000×60000 pixels', coco, huge, 'images too large to be decoded'),
        ('image of another size', coco, drawn(SCENE, 7, 9, 3), '(9×7 instead of 40×30)'),
        (
            'image turned by EXIF',
            coco,
            turned,
            'turned by its EXIF orientation',
        ),
        ('grey image', coco, drawn(SCENE), ''),
        ('image of 16 bits', coco, drawn(SCENE, value=999, dtype=np.uint16), ''),
        ('image with transparency', coco, drawn(SCENE, HEIGHT, WIDTH, 4), ''),
        ('jpeg called png', coco, drawn(SCENE, HEIGHT, WIDTH, 3, format='JPEG'), ''),
        (
            'folder with a space in its name',
            with_(coco, data_prefix={'img': 'my train/'}),
            moved('coco/train', 'coco/my train'),
            '',
        ),
        (
            'folder with a letter outside of ASCII',
            with_(coco, data_prefix={'img': 'Prüfung/'}),
            moved('coco/train', 'coco/Prüfung'),
            '',
        ),
        ('folder is a link', coco, linked_folder('coco/train', 'elsewhere'), ''),
        # Class folders.
        ('classes: root missing', classes, removed('classes'), 'data_prefix points to'),
        ('classes: split missing', classes, removed('classes/val'), 'data_prefix points to'),
        (
            'classes: split is a file',
            classes,
            file_instead('classes/val'),
            'folders of images that are no folders',
        ),
        (
            'classes: split empty',
            classes,
            emptied('classes/val'),
            'folders without a folder for each class',
        ),
        (
            'classes: images without class folders',
            classes,
            both(emptied('classes/val'), moved(CROP, 'classes/val/0.png')),
            'folders without a folder for each class',
        ),
        (
            'classes: nested once too deep',
            classes,
            moved('classes/train', 'classes/train_/train'),
            'data_prefix points to',
        ),
        (
            'classes: all in one folder more',
            with_(classes, data_prefix='below'),
            both(moved('classes/train', 'classes/below/train')),
            'has 1 class folders and the head num_classes=2',
        ),
        (
            'classes: one missing in val',
            classes,
            removed('classes/val/nut'),
            'class folders in only one of train and val',
        ),
        (
            'classes: one more in val',
            classes,
            added('classes/val/washer/0.png'),
            'class folders in only one of train and val',
        ),
        (
            'classes: another capital letter in val',
            classes,
            moved('classes/val/nut', 'classes/val/Nut'),
            'class folders in only one of train and val',
        ),
        (
            'classes: hidden folder of a notebook',
            classes,
            added('classes/train/.ipynb_checkpoints/0.png'),
            'has 3 class folders and the head num_classes=2',
        ),
        (
            'classes: three folders for 1000 classes',
            _FULL_IMAGENET,
            nothing,
            'take mmpretrain.CustomDataset',
        ),
        (
            'classes: other number in the head',
            with_(classes, num_classes=10),
            nothing,
            'set model.head.num_classes, and topk below it',
        ),
        (
            'classes: folder empty',
            classes,
            emptied('classes/train/nut'),
            '!class folders without an image',
        ),
        (
            'classes: all folders empty',
            classes,
            both(emptied('classes/train/nut'), emptied('classes/train/bolt')),
            'no class folder has a file that ends in',
        ),
        (
            'classes: file of another suffix',
            classes,
            added('classes/train/nut/notes.txt'),
            '!files left out, as they do not end in',
        ),
        (
            'classes: webp, which is not read',
            classes,
            moved(CROP, CROP.replace('png', 'webp')),
            '!files left out, as they do not end in',
        ),
        ('classes: hidden file', classes, added('classes/train/nut/.DS_Store'), ''),
        ('classes: image empty', classes, written(CROP, b''), 'images that are empty files'),
        ('classes: image is HTML', classes, written(CROP, _HTML), 'files that are no images'),
        ('classes: image cut short', classes, cut(CROP), _DAMAGED),
        ('classes: broken link', classes, linked(CROP), 'images that are links to nothing'),
        ('classes: grey image', classes, drawn(CROP), ''),
        ('classes: image of 16 bits', classes, drawn(CROP, dtype=np.uint16), ''),
        (
            'classes: folder with a space in its name',
            classes,
            both(
                moved('classes/train/nut', 'classes/train/big nut'),
                moved('classes/val/nut', 'classes/val/big nut'),
            ),
            '',
        ),
        # Lists of images with the numbers of their classes.
        ('list missing', listed, removed(LIST), 'ann_file points to'),
        ('list is a folder', listed, folder_instead(LIST), 'lists of images that cannot be read'),
        ('list empty', listed, written(LIST, b''), 'lists of images that are empty'),
        ('list is no text', listed, written(LIST, b'\xff\xfe'), 'that cannot be read'),
        ('list with an empty line', listed, written(LIST, b'bolt/0.png 0\n\n'), 'line 2 of'),
        ('list without numbers', listed, written(LIST, b'bolt/0.png\n'), 'are not a file, a'),
        ('list with names', listed, written(LIST, b'bolt/0.png bolt\n'), 'are not a file, a'),
        ('list with commas', listed, written(LIST, b'bolt/0.png,0\n'), 'are not a file, a'),
        ('list that counts from 1', listed, written(LIST, b'nut/0.png 2\n'), 'numbers of classes'),
        ('list with a missing image', listed, written(LIST, b'nut/9.png 1\n'), 'are missing'),
        # Pairs of images and masks.
        (
            'masks: image folder missing',
            city,
            removed('city/leftImg8bit'),
            'data_prefix.img_path points to',
        ),
        (
            'masks: mask folder missing',
            city,
            removed('city/gtFine'),
            'data_prefix.seg_map_path points to',
        ),
        (
            'masks: image folder is a file',
            city,
            file_instead('city/leftImg8bit/train'),
            'folders of images that are no folders',
        ),
        (
            'masks: image folder empty',
            city,
            emptied('city/leftImg8bit/train'),
            "no image ends in '_leftImg8bit.png'",
        ),
        (
            'masks: mask folder empty',
            city,
            emptied('city/gtFine/train'),
            "no mask ends in '_gtFine_labelTrainIds.png'",
        ),
        (
            'masks: wrong img_suffix',
            with_(city, img_suffix='.jpg'),
            nothing,
            "no image ends in '.jpg'; set img_suffix",
        ),
        (
            'masks: wrong seg_map_suffix',
            with_(city, seg_map_suffix='.tif'),
            nothing,
            "no mask ends in '.tif'; set seg_map_suffix",
        ),
        (
            'masks: general data set without suffixes',
            with_(city, type='mmseg.BaseSegDataset'),
            nothing,
            "no image ends in '.jpg'; set img_suffix",
        ),
        (
            'masks: missing of a general data set',
            with_(city, **_BASE_SEG, img_suffix='_leftImg8bit.png'),
            removed(MASK),
            'images without a mask',
        ),
        ('masks: mask missing', city, removed(MASK), 'images without a mask'),
        ('masks: image missing', city, removed(PHOTO), '!masks without an image'),
        (
            'masks: another folder than the image',
            city,
            moved(MASK, MASK.replace('aachen', 'bochum')),
            'images without a mask',
        ),
        ('masks: RGB', city, drawn(MASK, HEIGHT, WIDTH, 3), 'masks with colours instead'),
        ('masks: RGBA', city, drawn(MASK, HEIGHT, WIDTH, 4), 'masks with colours instead'),
        ('masks: value beyond the classes', city, drawn(MASK, value=7), 'masks with values above'),
        (
            'masks: 16 bits and beyond',
            city,
            drawn(MASK, value=999, dtype=np.uint16),
            'masks with values above 2 that are not 255',
        ),
        ('masks: another size', city, drawn(MASK, 5, 6), 'masks of another size than the image'),
        ('masks: saved as JPEG', _JPEG_MASKS, saved_as_jpeg, 'masks saved as JPEG'),
        ('masks: nothing but 255', city, drawn(MASK, value=255), '!masks of nothing but 255'),
        ('masks: a class nowhere', city, without_numbers(2), '!numbers of classes that no mask'),
        (
            'masks: 0 for nothing, as in ADE20K',
            with_(city, reduce_zero_label=True),
            nothing,
            '!numbers of classes that no mask has (1): 2',
        ),
        (
            'masks: class that Cityscapes does not have',
            with_(city, metainfo={'classes': ('road', 'bolt')}),
            nothing,
            "classes that mmseg.CityscapesDataset does not have (1): 'bolt'",
        ),
        ('masks: mask empty', city, written(MASK, b''), 'images that are empty files'),
        ('masks: mask is HTML', city, written(MASK, _HTML), 'files that are no images'),
        ('masks: mask cut short', city, cut(MASK), _DAMAGED),
        ('masks: mask is a broken link', city, linked(MASK), 'images that are links to nothing'),
        ('masks: image empty', city, written(PHOTO, b''), 'images that are empty files'),
        ('masks: image is HTML', city, written(PHOTO, _HTML), 'files that are no images'),
        ('masks: image cut short', city, cut(PHOTO), _DAMAGED),
        ('masks: list missing', with_(city, ann_file='gone.txt'), nothing, 'ann_file points to'),
        (
            'masks: list empty',
            with_(city, ann_file='train.txt'),
            written(NAMES, b''),
            'lists of images that are empty',
        ),
        (
            'masks: list with a missing image',
            with_(city, ann_file='train.txt'),
            written(NAMES, b'aachen/0\naachen/9\n'),
            'images that are missing',
        ),
        (
            'masks: list with suffixes',
            with_(city, ann_file='train.txt'),
            written(NAMES, b'aachen/0_leftImg8bit.png\n'),
            'images that are missing',
        ),
        ('masks: with a colour table', city, colour_table, ''),
        (
            'masks: folder of a city is a link',
            city,
            both(
                linked_folder('city/leftImg8bit/train/aachen', 'photos'),
                linked_folder('city/gtFine/train/aachen', 'labels'),
            ),
            '',
        ),
        (
            'masks: folder with a space in its name',
            city,
            both(
                moved('city/leftImg8bit/train/aachen', 'city/leftImg8bit/train/bad aachen'),
                moved('city/gtFine/train/aachen', 'city/gtFine/train/bad aachen'),
            ),
            '',
        ),
    )
]
