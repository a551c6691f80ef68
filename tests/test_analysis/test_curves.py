import numpy as np

from acon_mm.analysis.curves import draw_curves


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
