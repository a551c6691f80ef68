import numpy as np
import pytest

from acon_mm.datasets import compose_scene, load_digit_sources
from acon_mm.datasets.digit_scenes import BACKGROUND


@pytest.fixture(scope='module')
def sources():
    return load_digit_sources('val')


@pytest.fixture(scope='module')
def scenes(sources):
    return [compose_scene(sources, np.random.default_rng(i), image_size=128) for i in range(60)]


def inside(box):
    x, y, width, height = box
    return np.s_[y : y + height, x : x + width]


def test_scenes_show_one_to_four_digits(scenes):
    assert {len(scene.digits) for scene in scenes} == {1, 2, 3, 4}


def test_boxes_lie_in_the_image(scenes):
    for scene in scenes:
        for x, y, width, height in (digit.box for digit in scene.digits):
            assert 0 <= x < x + width <= 128
            assert 0 <= y < y + height <= 128


def test_boxes_are_the_tight_bounds_of_the_ink_in_the_label_map(scenes):
    """Every border row and column of a box holds its digit's ink, and all ink lies in boxes."""
    for scene in scenes:
        ink = scene.label_map != BACKGROUND
        covered = np.zeros_like(ink)
        for digit in scene.digits:
            own = scene.label_map[inside(digit.box)] == digit.label
            assert own[0].any() and own[-1].any() and own[:, 0].any() and own[:, -1].any()
            covered[inside(digit.box)] = True
        assert not (ink & ~covered).any()


def test_label_map_shows_the_digits_and_nothing_else(scenes):
    for scene in scenes:
        shown = set(np.unique(scene.label_map).tolist()) - {BACKGROUND}
        assert shown == {digit.label for digit in scene.digits}


def test_digits_are_annotated_with_their_sample(scenes, sources):
    label_of = dict(zip(sources.samples.tolist(), sources.labels.tolist(), strict=True))
    for digit in (digit for scene in scenes for digit in scene.digits):
        assert label_of[digit.sample] == digit.label


def test_ink_differs_from_the_paper_around_it(scenes):
    luma = np.array([0.114, 0.587, 0.299])
    for scene in scenes:
        brightness = scene.image @ luma
        background = scene.label_map == BACKGROUND
        for digit in scene.digits:
            window = inside(digit.box)
            own = scene.label_map[window] == digit.label
            ink, paper = brightness[window][own], brightness[window][background[window]]
            assert abs(np.median(ink) - np.median(paper)) > 20


def test_sizes_span_the_asked_range(sources):
    heights = []
    for i in range(80):
        scene = compose_scene(sources, np.random.default_rng(i), 160, heights=(0.15, 0.5))
        heights += [digit.box[3] for digit in scene.digits]
    # A turn and the pen's width move the ink's height by up to a fifth.
    assert min(heights) < 0.15 * 160 * 1.2 and max(heights) > 0.5 * 160 * 0.8
    assert min(heights) > 0.15 * 160 * 0.7 and max(heights) < 0.5 * 160 * 1.3


def test_label_restricts_the_digits(sources):
    for label in range(10):
        rng = np.random.default_rng(0)
        scene = compose_scene(sources, rng, image_size=64, max_digits=1, label=label)
        assert [digit.label for digit in scene.digits] == [label]


@pytest.mark.parametrize('heights', [(0.15, 0.5), (0.35, 0.9), (1.0, 1.0)])
def test_even_digits_as_large_as_the_image_fit(sources, heights):
    for i in range(20):
        rng = np.random.default_rng(i)
        scene = compose_scene(sources, rng, image_size=64, max_digits=1, heights=heights)
        assert len(scene.digits) == 1
        assert scene.image.shape == (64, 64, 3) and scene.image.dtype == np.uint8
