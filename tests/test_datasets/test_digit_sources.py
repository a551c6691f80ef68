import numpy as np
import pytest
from sklearn.datasets import load_digits

from acon_mm.datasets import load_digit_sources, split_samples


def test_split_uses_every_sample_once_and_keeps_class_shares():
    labels = load_digits().target
    split = split_samples(labels)
    together = np.concatenate([split['train'], split['val']])
    assert sorted(together.tolist()) == list(range(len(labels)))
    for label in range(10):
        share = (labels[split['val']] == label).sum() / (labels == label).sum()
        assert 0.23 < share <= 0.25


def test_validation_samples_follow_the_training_samples_of_their_class():
    labels = load_digits().target
    split = split_samples(labels)
    for label in range(10):
        train, val = (split[name][labels[split[name]] == label] for name in ('train', 'val'))
        assert train.max() < val.min()


def test_sources_of_the_splits_share_no_glyph_row_and_no_photo_column():
    train, val = load_digit_sources('train'), load_digit_sources('val')
    assert not set(train.samples.tolist()) & set(val.samples.tolist())
    for left, right in zip(train.photos, val.photos, strict=True):
        assert left.shape[1] + right.shape[1] == 640


def test_glyphs_are_the_rows_that_samples_names():
    digits = load_digits()
    sources = load_digit_sources('val')
    np.testing.assert_array_equal(sources.glyphs * 16, digits.images[sources.samples])
    np.testing.assert_array_equal(sources.labels, digits.target[sources.samples])


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match=r"'train', 'val'.*'test'"):
        load_digit_sources('test')
