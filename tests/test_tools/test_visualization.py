"""The scripts of tools/visualization/ write what they say."""

import csv

import pytest
import torch

from acon_mm import config_path
from acon_mm.apis import get_model

CLASSIFIER = str(config_path('classification/resnet18_metaacon_digits.py'))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'metaacon.pth'
    torch.save({'state_dict': get_model(CLASSIFIER).state_dict()}, path)
    return str(path)


@pytest.fixture(scope='module')
def crop(digit_scenes):
    return str(sorted(digit_scenes.glob('imagenet/val/*/*.png'))[0])


def test_vis_beta_writes_two_figures_and_a_row_for_each_layer(
    run_here, tmp_path, checkpoint, crop
):
    out = tmp_path / 'out'
    compare = ['--compare', CLASSIFIER, checkpoint, '--titles', 'one', 'other']
    run = run_here(
        'visualization/vis_beta.py', CLASSIFIER, checkpoint, crop, *compare, '--out', out
    )
    assert run.returncode == 0, run.stderr
    assert sorted(p.name for p in out.iterdir()) == [
        'beta.csv',
        'distribution.png',
        'overview.png',
    ]
    with open(out / 'beta.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 16
    assert [{**row, 'model': ''} for row in rows[:16]] == [{**r, 'model': ''} for r in rows[16:]]


def test_vis_beta_refuses_in_a_sentence(run_here, tmp_path, checkpoint, crop):
    script = 'visualization/vis_beta.py'
    run = run_here(script, CLASSIFIER, checkpoint, crop, '--titles', 'a', 'b', '--out', tmp_path)
    assert run.returncode == 1
    assert run.stderr.endswith(
        "error: titles ['a', 'b'] must be 1 different names, one for a model\n"
    )
    assert not list(tmp_path.iterdir())
