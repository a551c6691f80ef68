"""Faulty data is told with its files, all at once."""

import contextlib
import importlib.util
import io
import os
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
from broken_data import (
    CLASSES,
    DATA_FAULTS,
    SCENE,
    again,
    box,
    city,
    classes,
    coco,
    listed,
    make_data,
)
from broken_data import removed as remove
from mmengine.registry import DATASETS
from table import WRITE_FLAG, Table, cell

from acon_mm.engine.data_faults import fault_lines
from acon_mm.engine.data_faults.images import image_faults
from acon_mm.engine.dataset_check import check_dataset, dataset_faults
from acon_mm.errors import UserError

TOOL = Path(__file__).parents[2] / 'tools/misc/check_dataset.py'
TITLE = 'data faults'
NOBODY = 65534


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp('sound')
    make_data(root)
    return root


@pytest.fixture
def data(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / 'data', symlinks=True)


@pytest.fixture(scope='module')
def main():
    spec = importlib.util.spec_from_file_location('check_dataset_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.main


@pytest.fixture
def check(main):
    """Run tools/misc/check_dataset.py; return its lines and whether a run has to be refused."""

    def check(cfg):
        splits = ['train', 'val'] if 'val_dataloader' in cfg else ['train']
        arguments = Namespace(config=cfg, splits=splits, annotations_only=False)
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                status = main(arguments)
        except UserError as error:
            return [str(error)], True
        return out.getvalue().splitlines()[:-1], bool(status)

    return check


@pytest.mark.parametrize('make', [coco, city, classes, listed])
def test_sound_data_is_not_complained_about(sound, check, make):
    assert check(make(sound)) == ([], False)


@pytest.mark.parametrize('fault', DATA_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_told_as_the_page_says(data, check, hold_row, fault):
    cfg = fault.config(data)
    fault.spoil(data)
    lines, is_fatal = check(cfg)
    told = fault.told.lstrip('!')
    assert any(told in line for line in lines) == bool(told), lines
    assert is_fatal == bool(told and told == fault.told)
    text = cell('\n'.join(lines), DATA=data)
    outcome = text if is_fatal else f'goes on: {text or "nothing is wrong"}'
    hold_row(TITLE, fault.name, outcome)


def test_the_page_has_these_faults_and_no_others(request):
    if request.config.getoption(WRITE_FLAG):
        pytest.skip('the page is written at the end')
    names = [fault.name for fault in DATA_FAULTS]
    assert list(Table(TITLE).rows) == names
    assert len({*names}) == len(names) >= 90


@pytest.mark.parametrize(
    'fault', [fault for fault in DATA_FAULTS if not fault.told], ids=lambda fault: fault.name
)
def test_the_library_loads_what_is_not_complained_about(data, fault):
    cfg = fault.config(data)
    fault.spoil(data)
    pipeline = [{'type': 'mmcv.LoadImageFromFile'}]
    if fault.config is city:
        pipeline.append({'type': 'mmseg.LoadAnnotations'})
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': pipeline})
    for index in range(len(dataset)):
        assert dataset[index]['img'].shape == (30, 40, 3)


def test_before_a_run_all_faults_are_told_at_once_and_no_image_is_opened(data):
    box(9, 9, 0, 5)(data)
    (data / SCENE).write_bytes(b'')
    (line,) = check_dataset(coco(data), ('train',))
    assert line.startswith('boxes without area (1): annotation')
    remove(SCENE)(data)
    again('categories')(data)
    with pytest.raises(UserError) as error:
        check_dataset(coco(data), ('train',))
    assert len(str(error.value).splitlines()) == 3  # the head, and these two
    assert 'categories whose id occurs twice' in str(error.value)


def test_an_image_that_may_not_be_read_is_named(tmp_path):
    make_data(tmp_path)
    file = tmp_path / SCENE
    file.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:  # who may read everything
            os.seteuid(NOBODY)
        (fault,) = image_faults(file)
    finally:
        if is_root:
            os.seteuid(0)
    assert fault.kind == 'images that may not be read'


@pytest.mark.parametrize(
    ('num_classes', 'names', 'told'),
    [
        (1, CLASSES, 'num_classes=1 and the data set 2 classes'),
        (2, CLASSES, None),
        (256, CLASSES, 'num_classes=256 and the data set 2 classes'),
    ],
)
def test_a_head_of_another_number_of_classes_is_told(sound, num_classes, names, told):
    cfg = coco(sound, metainfo={'classes': names})
    cfg.model.bbox_head.num_classes = num_classes
    faults = list(dataset_faults(cfg, ('train',)))
    lines = fault_lines(faults)
    assert bool(lines) == bool(told)
    assert any(fault.is_fatal for fault in faults) == (num_classes < len(names))
    assert not told or told in lines[0]


def test_a_data_set_of_another_layout_is_left_alone(sound):
    cfg = coco(sound, type='mmdet.CocoPanopticDataset', ann_file='none.json')
    assert list(dataset_faults(cfg, ('train',), read_images=True)) == []
