import json

import numpy as np
import pytest

from acon_mm.analysis.log_curves import draw_curves_of_runs, read_curve
from acon_mm.errors import UserError


def write_run(folder, start, offset, by_epoch=True):
    """Write what mmengine logs from an iteration on; a resumed run has a second folder."""
    path = folder / f'2026_{start}' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    extra = {'epoch': 1} if by_epoch else {}
    lines = [{'loss': i + offset, 'iter': i, 'step': i, **extra} for i in range(start, start + 4)]
    lines.append({'acc': 10 * start + offset, 'step': 1})
    path.write_text('\n'.join(map(json.dumps, lines)))
    return folder


def test_the_line_is_the_mean_of_the_runs_and_the_band_their_range(tmp_path):
    runs = [write_run(tmp_path / str(n), 1, n) for n in (0, 1, 5)]
    (axes,) = draw_curves_of_runs({'a': runs}, ['loss']).axes
    (line,) = axes.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(line.get_ydata(), [3, 4, 5, 6])
    band = axes.collections[0].get_paths()[0].vertices
    at_one = band[band[:, 0] == 1, 1]
    assert (at_one.min(), at_one.max()) == (1, 6)


@pytest.mark.parametrize(('by_epoch', 'unit'), [(True, 'epoch'), (False, 'iteration')])
def test_validations_are_counted_as_the_training_is(tmp_path, by_epoch, unit):
    run = write_run(tmp_path, 1, 0, by_epoch)
    assert read_curve(run, 'acc') == ({1: 10.0}, unit)
    assert read_curve(run, 'loss')[1] == 'iteration'


def test_a_resumed_run_counts_where_both_parts_logged(tmp_path):
    write_run(tmp_path, 1, 0)
    write_run(tmp_path, 3, 100)
    curve, _ = read_curve(tmp_path, 'loss')
    assert curve == {1: 1, 2: 2, 3: 103, 4: 104, 5: 105, 6: 106}


def test_smoothing_keeps_a_straight_line_inside(tmp_path):
    (axes,) = draw_curves_of_runs({'a': [write_run(tmp_path, 1, 0)]}, ['loss'], smooth=3).axes
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [1.5, 2, 3, 3.5])


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match='has no log of a training'):
        read_curve(tmp_path, 'loss')
    with pytest.raises(UserError, match=r"key 'mAP' is not in the log of .*: loss, iter"):
        read_curve(write_run(tmp_path, 1, 0), 'mAP')
