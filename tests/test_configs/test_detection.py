"""The detection configs are the setting of Table 9 of the paper."""

import re
from pathlib import Path

import pytest
import yaml
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from acon_mm import config_path
from acon_mm.models import AconA, MetaAcon

ROWS = {'relu': None, 'swish': AconA, 'metaacon': MetaAcon}


@pytest.fixture(scope='module', autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def load(activation):
    return Config.fromfile(config_path(f'detection/retinanet_r50_{activation}.py'))


def build(activation):
    cfg = load(activation)
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model), cfg


@pytest.mark.parametrize(('activation', 'kind'), ROWS.items())
def test_each_row_replaces_the_activation_after_the_3x3_convolution(activation, kind):
    model, _ = build(activation)
    own = {n: m for n, m in model.named_modules() if isinstance(m, (AconA, MetaAcon))}
    assert len(own) == (16 if kind else 0)
    assert all(re.fullmatch(r'backbone\.layer\d\.\d\.act2', name) for name in own)
    assert all(type(m) is kind for m in own.values())


@pytest.mark.parametrize('activation', ROWS)
def test_the_input_is_that_of_the_authors_networks(activation):
    model, _ = build(activation)
    preprocessor = model.data_preprocessor
    assert not preprocessor.mean.any()
    assert (preprocessor.std == 1).all()
    assert not preprocessor._channel_conversion
    # The stride stands in the first 1×1 convolution.
    assert model.backbone.layer2[0].conv1.stride == (2, 2)
    assert model.backbone.layer2[0].conv2.stride == (1, 1)


@pytest.mark.parametrize('activation', ROWS)
def test_the_setting_is_that_of_the_paper(activation):
    cfg = load(activation)
    generator = TASK_UTILS.build(cfg.model.bbox_head.anchor_generator)
    assert set(generator.num_base_priors) == {9}
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        assert [t.scale for t in pipeline if t.type == 'mmdet.Resize'] == [(1000, 600)]
    assert cfg.train_dataloader.dataset.ann_file == 'annotations/instances_train2017.json'
    assert cfg.val_dataloader.dataset.ann_file == 'annotations/instances_val2017.json'
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_epochs == 12
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == (
        'mmengine.SGD',
        0.9,
        1e-4,
    )
    assert cfg.env_cfg.dist_cfg.backend == 'nccl'
    assert not cfg.env_cfg.cudnn_benchmark


def test_weight_decay_spares_the_activations_but_for_their_two_layers():
    model, cfg = build('metaacon')
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {id(p): g['weight_decay'] for g in optimizer.param_groups for p in g['params']}
    inside = {
        name.rsplit('act2.')[-1]: decay[id(p)]
        for name, p in model.named_parameters()
        if 'act2.' in name and p.requires_grad
    }
    assert inside == {
        'p1': 0,
        'p2': 0,
        'fc1.weight': 1e-4,
        'fc1.bias': 0,
        'bn1.weight': 0,
        'bn1.bias': 0,
        'fc2.weight': 1e-4,
        'fc2.bias': 0,
        'bn2.weight': 0,
        'bn2.bias': 0,
    }
    assert decay[id(model.backbone.layer2[0].conv1.weight)] == 1e-4
    assert decay[id(model.bbox_head.retina_cls.weight)] == 1e-4


def test_one_variable_sets_the_pretrained_checkpoint(monkeypatch):
    checkpoint = load('metaacon').model.backbone.init_cfg.checkpoint
    assert checkpoint == 'checkpoints/resnet50_metaacon.pth'
    monkeypatch.setenv('ACON_MM_PRETRAINED', '/elsewhere/mine.pth')
    assert load('metaacon').model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint='/elsewhere/mine.pth', prefix='backbone.'
    )


def steps(node):
    """Yield every step of a pipeline, those of the views included."""
    for step in node:
        if isinstance(step, list):
            yield from steps(step)
        else:
            yield step
            yield from steps(step.get('transforms', ()))


@pytest.mark.parametrize('activation', ROWS)
def test_views_of_digits_are_of_their_size_and_never_mirrored(activation):
    cfg = Config.fromfile(config_path(f'detection/retinanet_r18_{activation}_digits.py'))
    views = list(steps(cfg.tta_pipeline))
    scales = [step.scale for step in views if step.type == 'mmdet.Resize']
    assert scales == [(128, 128), (160, 160), (192, 192)]
    assert [step.prob for step in views if step.type == 'mmdet.RandomFlip'] == [0.0]


@pytest.mark.parametrize('readme', ['README.md', 'configs/detection/README.md'])
def test_the_table_in_the_readme_is_that_of_the_metafile(readme, repo_root):
    metafile = yaml.safe_load((repo_root / 'configs/detection/metafile.yml').read_text())
    text = Path(repo_root, readme).read_text()
    models = [model for model in metafile['Models'] if 'Results' in model]
    assert len(models) == len(ROWS)
    for model in models:
        figures = r' *\| *'.join(
            re.escape(str(v)) for v in model['Results'][0]['Metrics'].values()
        )
        row = rf'\| [^|\n]*{model["Name"]}[^|\n]* \| *{figures} *\|'
        assert re.search(row, text), f'{readme} has no row {model["Name"]} | {figures}'
        assert (repo_root / model['Config']).is_file()
