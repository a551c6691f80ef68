import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_digit_scenes.py'


def run(*args):
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_script_makes_what_the_flags_ask_for(tmp_path):
    sizes = '--num-train 2 --num-val 1 --num-train-crops 10 --num-val-crops 10 --image-size 96'
    result = run('--out', tmp_path / 'scenes', '--seed', 7, *sizes.split())
    assert result.returncode == 0, result.stderr
    assert 'train scenes: 2/2' in result.stdout
    assert len(list((tmp_path / 'scenes' / 'images' / 'train').iterdir())) == 2


def test_a_bad_value_gets_one_sentence_and_a_status(tmp_path):
    result = run('--out', tmp_path / 'scenes', '--num-val', 0)
    assert result.returncode != 0
    sentence = 'num_val must be a whole number from 1 up, got 0.'
    assert result.stderr == f'make_digit_scenes.py: {sentence}\n'
    assert not list(tmp_path.iterdir())
