import dataclasses
import hashlib
import json

import pytest

from acon_mm.datasets import BuildOptions, build_digit_scenes, digit_build
from acon_mm.datasets.digit_build import MANIFEST


def digest(root):
    """Map every file below a folder to the hash of its bytes."""
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def quiet(line):
    pass


def test_same_seed_gives_the_same_bytes(small_build, small_options, tmp_path):
    build_digit_scenes(tmp_path / 'again', small_options, log=quiet)
    assert digest(tmp_path / 'again') == digest(small_build)


def test_another_seed_gives_other_images(small_build, small_options, tmp_path):
    options = dataclasses.replace(small_options, seed=1)
    build_digit_scenes(tmp_path / 'other', options, log=quiet)
    images = {name: sha for name, sha in digest(small_build).items() if 'images/' in name}
    others = digest(tmp_path / 'other')
    assert images and all(others[name] != sha for name, sha in images.items())


def test_a_smaller_set_is_the_beginning_of_a_larger_one(small_build, small_options, tmp_path):
    options = dataclasses.replace(small_options, num_train=3, num_train_crops=7)
    build_digit_scenes(tmp_path / 'less', options, log=quiet)
    larger = digest(small_build)
    pngs = {name: sha for name, sha in digest(tmp_path / 'less').items() if name.endswith('.png')}
    assert all(larger[name] == sha for name, sha in pngs.items())


def samples_of(root, split):
    """Return the rows of load_digits that a split's scenes and crops name."""
    coco = json.loads((root / 'annotations' / f'instances_{split}.json').read_text())
    scenes = {annotation['digit_sample'] for annotation in coco['annotations']}
    crops = {int(path.stem.split('_')[1]) for path in root.glob(f'imagenet/{split}/*/*.png')}
    return scenes | crops


def test_no_validation_digit_was_seen_in_training(small_build):
    train, val = samples_of(small_build, 'train'), samples_of(small_build, 'val')
    assert train and val and not train & val


def test_progress_names_what_is_made(tmp_path, small_options):
    lines = []
    build_digit_scenes(tmp_path / 'scenes', small_options, log=lines.append)
    assert 'train scenes: 12/12' in lines and 'val crops: 20/20' in lines


def test_an_interrupted_build_leaves_nothing(tmp_path, small_options, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(digit_build, 'write_crops', interrupt)  # the scenes are written by then
    with pytest.raises(KeyboardInterrupt):
        build_digit_scenes(tmp_path / 'scenes', small_options, log=quiet)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_overwrite_keeps_the_old_scenes(tmp_path, small_options, monkeypatch):
    out = tmp_path / 'scenes'
    build_digit_scenes(out, small_options, log=quiet)
    before = digest(out)

    def fail(*args, **kwargs):
        raise OSError('No space left on device')

    monkeypatch.setattr(digit_build, 'write_crops', fail)
    with pytest.raises(OSError, match='No space'):
        options = dataclasses.replace(small_options, seed=5)
        build_digit_scenes(out, options, overwrite=True, log=quiet)
    assert digest(out) == before and list(tmp_path.iterdir()) == [out]


def test_a_complete_folder_is_left_alone(tmp_path, small_options):
    out = tmp_path / 'scenes'
    assert build_digit_scenes(out, small_options, log=quiet)
    made = (out / MANIFEST).stat().st_mtime_ns
    assert not build_digit_scenes(out, small_options, log=quiet)
    assert (out / MANIFEST).stat().st_mtime_ns == made


def test_other_options_ask_for_overwrite_and_replace_the_folder(tmp_path, small_options):
    out = tmp_path / 'scenes'
    build_digit_scenes(out, small_options, log=quiet)
    options = dataclasses.replace(small_options, num_val=3)
    with pytest.raises(FileExistsError, match=r'num_val 8, not 3.*--overwrite'):
        build_digit_scenes(out, options, log=quiet)
    assert build_digit_scenes(out, options, overwrite=True, log=quiet)
    assert len(list(out.glob('images/val/*.png'))) == 3
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_folder_of_something_else_is_never_replaced(tmp_path, small_options, overwrite):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(FileExistsError, match='no DigitScenes folder'):
        build_digit_scenes(tmp_path, small_options, overwrite=overwrite, log=quiet)
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work'


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('num_train', 0),
        ('num_val', -1),
        ('num_train_crops', 2.5),
        ('num_val_crops', True),
        ('image_size', 63),
        ('crop_size', 2000),
        ('seed', -1),
    ],
)
def test_bad_options_name_the_option_and_its_value(name, value):
    with pytest.raises(ValueError, match=rf'^{name} must be .*got {value}'):
        BuildOptions(**{name: value})
