import pytest

from acon_mm.engine.work_dir import only_run_in
from acon_mm.errors import UserError


def test_a_second_training_is_kept_out_until_the_first_ends(tmp_path):
    for _ in range(2):
        with (
            only_run_in(tmp_path / 'new'),
            only_run_in(tmp_path / 'other'),
            pytest.raises(UserError, match='another training runs in'),
            only_run_in(tmp_path / 'new'),
        ):
            pass
