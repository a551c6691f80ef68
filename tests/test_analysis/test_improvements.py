import pytest

from acon_mm.analysis.improvements import (
    draw_improvements,
    improvements_of_grid,
    improvements_of_tables,
)
from acon_mm.analysis.paper_tables import paper_tables
from acon_mm.errors import UserError


def test_the_paper_improves_as_its_table_says():
    """Table 2: ResNet-50 has an error of 24.0 with ReLU and of 22.0 with Meta-ACON."""
    (table,) = paper_tables([2])
    found = improvements_of_tables([table])
    errors = {row.model: float(row.paper['Top 1 Error']) for row in table.rows}
    assert found.metric == 'Top 1 accuracy'
    for network, group in found.groups.items():
        relu, meta = (100 - errors[f'{network}_{act}'] for act in ('relu', 'metaacon'))
        assert group == {'Meta-ACON': [pytest.approx(100 * (meta - relu) / relu)]}


def test_a_grid_is_compared_in_pairs_by_seed():
    rows = [
        {'title': 'ReLU', 'metrics': {'box AP': {'0': 50.0, '1': 40.0}}},
        {'title': 'Swish', 'metrics': {'box AP': {'0': 55.0, '1': 42.0, '2': 60.0}}},
        {'title': 'Meta-ACON', 'metrics': {'box AP': {}}},
    ]
    found = improvements_of_grid({'detect': rows})
    assert found.groups == {'detect: box AP': {'Swish': pytest.approx([10.0, 5.0])}}
    axes = draw_improvements(found).axes[0]
    (bar,) = axes.patches
    assert bar.get_height() == pytest.approx(7.5)


def test_tables_of_different_metrics_are_refused():
    with pytest.raises(UserError, match='different metrics: Top 1 Error, box AP'):
        improvements_of_tables(paper_tables([2, 9]))
