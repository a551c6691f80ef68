import json

import pytest

from acon_mm.analysis.transfer_files import read_json, write_json


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'result.json'
    write_json({'a': 1}, path)
    with pytest.raises(TypeError):
        write_json({'a': object()}, path)
    assert json.loads(path.read_text()) == {'a': 1}
    assert [p.name for p in tmp_path.iterdir()] == ['result.json']


def test_a_file_that_is_not_there_holds_nothing(tmp_path):
    assert read_json(tmp_path / 'result.json') is None
    write_json({'β': [1.5, None]}, tmp_path / 'result.json')
    assert read_json(tmp_path / 'result.json') == {'β': [1.5, None]}
