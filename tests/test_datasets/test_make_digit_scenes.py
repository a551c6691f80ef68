import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from acon_mm.datasets import BuildOptions

SCRIPT = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_digit_scenes.py'


def test_the_script_makes_what_the_flags_ask_for(tmp_path):
    sizes = '--num-train 2 --num-val 1 --num-train-crops 10 --num-val-crops 10 --image-size 96'
    command = [sys.executable, SCRIPT, '--out', tmp_path / 'scenes', '--seed', '7', *sizes.split()]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert 'train scenes: 2/2' in result.stdout
    assert len(list((tmp_path / 'scenes' / 'images' / 'train').iterdir())) == 2


def test_a_bad_value_gets_one_sentence_and_a_status(tmp_path, monkeypatch, capsys):
    arguments = [SCRIPT, '--out', tmp_path / 'scenes', '--num-val', 0]
    monkeypatch.setattr(sys, 'argv', list(map(str, arguments)))
    with pytest.raises(SystemExit, match='1'):
        runpy.run_path(str(SCRIPT), run_name='__main__')
    sentence = 'num_val must be a whole number from 1 up, got 0.'
    assert capsys.readouterr().err == f'make_digit_scenes.py: {sentence}\n'
    assert not list(tmp_path.iterdir())


def test_the_defaults_are_those_of_the_function():
    options = runpy.run_path(str(SCRIPT))['OPTIONS']
    assert BuildOptions(**{name: default for name, (default, _) in options.items()}) == (
        BuildOptions()
    )
    assert list(options) == [field.name for field in fields(BuildOptions)]
