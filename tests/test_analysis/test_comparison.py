import numpy as np
import pytest

from acon_mm import config_path
from acon_mm.analysis.comparison import Boxes, compare_models, disagreement, draw_comparison
from acon_mm.apis import get_model
from acon_mm.apis.config import load_config
from acon_mm.errors import UserError

A, B, SHIFTED = [0, 0, 10, 10], [50, 50, 60, 60], [1, 0, 11, 10]  # an IoU of 9 / 11


def boxes(*bboxes, labels):
    return Boxes(np.array(bboxes, dtype=float).reshape(-1, 4), np.array(labels))


@pytest.mark.parametrize(
    ('one', 'other', 'share'),
    [
        (boxes(A, B, labels=[1, 2]), boxes(B, SHIFTED, labels=[2, 1]), 0),
        (boxes(A, labels=[1]), boxes(A, labels=[2]), 1),
        (boxes(A, B, labels=[1, 1]), boxes(A, labels=[1]), 1 / 3),
        (boxes(A, A, labels=[1, 1]), boxes(A, labels=[1]), 1 / 3),  # each is matched once
        (boxes(labels=[]), boxes(labels=[]), 0),
    ],
)
def test_boxes_disagree_by_the_share_without_a_partner(one, other, share):
    assert disagreement(one, other) == disagreement(other, one) == pytest.approx(share)


@pytest.mark.parametrize('task', ['segmentation/pspnet', 'detection/retinanet'])
def test_pictures_are_sorted_by_disagreement_and_have_their_truth(task, digit_scenes):
    models = {}
    for title in ('relu', 'swish'):
        cfg = load_config(config_path(f'{task}_r18_{title}_digits.py'))
        cfg.test_dataloader.dataset.data_root = str(digit_scenes)
        models[title] = get_model(cfg)
    found = compare_models(models, limit=3, score_thr=0.0)
    shares = [item.disagreement for item in found]
    assert shares == sorted(shares, reverse=True)
    assert len({item.path for item in found}) == 3
    for item in found:
        assert item.disagreement == disagreement(*item.predictions.values())
        if isinstance(item.truth, Boxes):
            assert len(item.truth.labels)
            assert item.truth.bboxes.max() <= 96  # in the pixels of the picture
        else:
            assert item.truth.shape == item.predictions['relu'].shape == (96, 96)
    meta = models['relu'].dataset_meta
    assert meta['classes'][:10] == tuple('0123456789')
    figure = draw_comparison(found[:2], meta['classes'], meta.get('palette'))
    assert [axes.get_title() for axes in figure.axes] == ['truth', 'relu', 'swish', '', '', '']


def test_one_model_is_nothing_to_compare():
    model = get_model(config_path('classification/resnet18_relu_digits.py'))
    with pytest.raises(UserError, match='1 models of mmpretrain cannot be compared'):
        compare_models({'one': model})
