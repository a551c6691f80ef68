"""The numbers and figures of switching factors are those of the network."""

import numpy as np
import pytest
import torch

from acon_mm import config_path
from acon_mm.analysis.factor_figures import draw_distribution, draw_maps, draw_overview
from acon_mm.analysis.factors import layer_of, record_pictures, table_rows
from acon_mm.apis import get_model
from acon_mm.errors import UserError
from acon_mm.models import AconC, MetaAcon

CLASSIFIER = 'classification/resnet18_metaacon_digits.py'


def build(name, **act_cfg):
    act_cfg = dict(type='acon_mm.MetaAcon') | act_cfg
    model = get_model(config_path(name), backbone=dict(act_cfg=act_cfg))
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope='module')
def crops(digit_scenes):
    return sorted(digit_scenes.glob('imagenet/val/*/*.png'))[:3]


@pytest.fixture(scope='module')
def models():
    return {
        'Meta-ACON': build(CLASSIFIER),
        'ACON-C': build(CLASSIFIER, type='acon_mm.AconC'),
    }


@pytest.fixture(scope='module')
def recordings(models, crops):
    return [record_pictures(model, crops, title) for title, model in models.items()]


def heights(axes, model):
    """Return the heights of the bars of the outline that a model has."""
    (patch,) = [p for p in axes.patches if p.get_label() == model]
    return patch.get_xy()[:, 1]


def test_only_meta_acon_has_another_distribution_for_each_picture(recordings, models):
    layers = [layer_of(recording, None) for recording in recordings]
    panels = draw_distribution(recordings, layers).axes
    histograms = panels[len(panels) // 2 :]
    same = {}
    for name in models:
        first, *others = [heights(axes, name) for axes in histograms]
        same[name] = [np.array_equal(first, other) for other in others]
    assert same == {'Meta-ACON': [False, False], 'ACON-C': [True, True]}


def test_the_factors_of_acon_c_are_its_parameter(recordings, models):
    modules = dict(models['ACON-C'].named_modules())
    names = recordings[1].names()
    assert names == [n for n, m in modules.items() if isinstance(m, AconC)]
    picture = next(iter(recordings[1].pictures))
    for name in names:
        m = modules[name]
        np.testing.assert_array_equal(recordings[1].beta(name, picture), m.beta.detach())
        expected = (m.beta * (m.p1 - m.p2)).abs().detach()
        np.testing.assert_allclose(recordings[1].steepness(name, picture), expected, rtol=1e-6)


def test_the_overview_has_the_median_of_each_layer(recordings):
    left, _ = draw_overview(recordings).axes
    dots = [line for line in left.get_lines() if line.get_marker() == 'o']
    drawn = sorted(float(x) for line in dots for x in line.get_xdata())
    expected = [
        np.median(np.concatenate([r.beta(name, p) for p in r.pictures]))
        for r in recordings
        for name in r.names()
    ]
    np.testing.assert_allclose(drawn, sorted(expected), rtol=1e-6)


def test_a_layer_is_found_by_the_end_of_its_name(recordings):
    recording = recordings[0]
    assert layer_of(recording, 'layer1.0.act2') == 'backbone.layer1.0.act2'
    assert layer_of(recording, None) == recording.names()[-1]
    with pytest.raises(UserError, match=r"layer 'act1' must name one .*backbone\.layer4\.1\.act2"):
        layer_of(recording, 'act1')


@pytest.mark.parametrize(
    ('name', 'stages'),
    [
        ('detection/retinanet_r18_metaacon_digits.py', 4),
        ('segmentation/pspnet_r18_metaacon_digits.py', 3),  # it does not run the last one
    ],
)
def test_pixel_wise_factors_are_drawn_where_they_are(name, stages, digit_scenes):
    """The mean over the map is the mean over the table, and the map has the size of the layer."""
    model = build(name, manner='pixel_wise')
    picture = sorted(digit_scenes.glob('images/val/*.png'))[0]
    recording = record_pictures(model, [picture], 'pixel-wise')
    called = recording.names()
    expected = [n for n, m in model.named_modules() if isinstance(m, MetaAcon)]
    assert called == expected[: 4 * stages]
    means = {row['layer']: row['beta_mean'] for row in table_rows([recording])}
    sizes = []
    for layer in called:
        beta = recording.map_of(layer, picture.stem)
        assert beta.mean() == pytest.approx(means[layer], rel=1e-4)
        sizes.append(beta.shape[0])
    assert sizes == sorted(sizes, reverse=True)
    drawn = [axes.images[0].get_array() for axes in draw_maps(recording, picture.stem).axes[1:9]]
    np.testing.assert_array_equal(drawn[0], recording.map_of(called[0], picture.stem))


def test_a_network_without_switching_factors_is_refused(crops):
    model = get_model(config_path(CLASSIFIER.replace('metaacon', 'relu')))
    with pytest.raises(UserError, match="'plain' has no switching factors; give a model with"):
        record_pictures(model, crops, 'plain')
