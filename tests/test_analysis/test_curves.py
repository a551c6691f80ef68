import numpy as np
import pytest
import torch
from torch import nn

from acon_mm.analysis.curves import draw_curves, draw_learnt_curves
from acon_mm.errors import UserError
from acon_mm.models import AconC, MetaAcon
from acon_mm.models.switching import record_factors


def lines(axes):
    return {line.get_label(): np.array(line.get_xydata()) for line in axes.get_lines()}


def test_the_curves_run_from_the_mean_to_the_maximum_of_the_two_lines():
    curves = lines(draw_curves().axes[0])
    x = curves['β = 0'][:, 0]
    np.testing.assert_allclose(curves['β = 0'][:, 1], (1.2 * x - 0.8 * x) / 2, atol=1e-6)
    np.testing.assert_allclose(curves['β = 20'][:, 1], np.maximum(1.2 * x, -0.8 * x), atol=0.02)
    assert np.all(np.diff([curve[:, 1] for curve in curves.values()], axis=0) >= -1e-6)


def test_the_derivatives_are_the_slopes_of_the_drawn_curves():
    left, middle, _ = draw_curves().axes
    values, slopes = lines(left), lines(middle)
    for label in ('β = 0.5', 'β = 1', 'β = 2'):
        x, y = values[label].T
        np.testing.assert_allclose(np.gradient(y, x)[1:-1], slopes[label][1:-1, 1], atol=2e-3)


def test_learnt_derivatives_are_slopes_within_the_drawn_bounds():
    act = AconC(20, init='normal')
    with record_factors(nn.Sequential(act)) as layers:
        pass
    left, middle, right = draw_learnt_curves(layers).axes
    curves = [line for line in left.get_lines() if len(line.get_xdata()) > 2]
    slopes = [line for line in middle.get_lines() if len(line.get_xdata()) > 2]
    marks = [line for line in middle.get_lines() if len(line.get_xdata()) == 2]
    assert len(curves) == len(slopes) == len(marks) == 5
    for curve, slope, mark in zip(curves, slopes, marks, strict=True):
        x, y = map(np.asarray, curve.get_data())
        np.testing.assert_allclose(np.gradient(y, x)[1:-1], slope.get_ydata()[1:-1], atol=5e-3)
        low, high = mark.get_ydata()
        assert low - 1e-5 <= min(slope.get_ydata()) < max(slope.get_ydata()) <= high + 1e-5
    upper = right.get_lines()[0].get_ydata()
    p1, p2 = act.p1.detach(), act.p2.detach()
    overshoot = 0.0998 * (p1 - p2).abs()
    expected = (torch.maximum(p1, p2) + overshoot).sort().values
    np.testing.assert_allclose(upper, expected, atol=1e-3)


def test_the_curves_of_meta_acon_need_a_picture():
    with record_factors(nn.Sequential(MetaAcon(4))) as layers:
        pass
    with pytest.raises(UserError, match="factors of '0' depend on the input; give --image"):
        draw_learnt_curves(layers)
