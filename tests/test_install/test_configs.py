"""``config_path`` names files that exist, and says which ones are near."""

from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

import acon_mm


def test_config_path_is_an_absolute_path_of_a_config_that_reads():
    path = Path(acon_mm.config_path('detection/retinanet_r50_metaacon.py'))
    assert path.is_absolute()
    assert Config.fromfile(path).model.backbone.act_cfg.type == 'acon_mm.MetaAcon'


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('detection/retinanet_r50_metacon.py', "'detection/retinanet_r50_metaacon.py'"),
        ('detection/retinanet_r50_metaacon', "'detection/retinanet_r50_metaacon.py'"),
        ('zzz.py', 'the configs lie below'),
        ('', 'the configs lie below'),
    ],
)
def test_unknown_config_is_refused_with_the_nearest_ones(name, hint):
    with pytest.raises(FileNotFoundError) as error:
        acon_mm.config_path(name)
    message = str(error.value)
    assert message.startswith(f'acon_mm has no config {name!r}; ')
    assert hint in message
    assert '\n' not in message


def test_model_index_lists_every_metafile_and_no_other(repo_root):
    # mmengine reads all of them to resolve one `acon_mm::` base.
    listed = yaml.safe_load((repo_root / 'model-index.yml').read_text())['Import']
    existing = sorted(repo_root.glob('configs/*/*metafile.yml'))
    assert sorted(listed) == [path.relative_to(repo_root).as_posix() for path in existing]
    for path in existing:
        models = yaml.safe_load(path.read_text())['Models']
        assert all((repo_root / model['Config']).is_file() for model in models)
