"""The classification configs are the authors' recipe, and every one of them trains."""

import functools
import pickle
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, DefaultScope
from mmpretrain.models import ImageClassifier
from torch import nn

from acon_mm import apis
from acon_mm.models.backbones import senet
from acon_mm.registry import type_name

CONFIGS = Path(__file__).parents[2] / 'configs' / 'classification'
FILES = sorted(path.stem for path in CONFIGS.glob('*.py'))
IMAGENET = [name for name in FILES if not name.endswith('_digits')]

# One width a family runs in every test run, the others in `make test-all`.
QUICK = (
    'mobilenetv1_0.25_metaacon',
    'mobilenetv2_0.17_metaacon',
    'resnet18_aconc',
    'senet154_relu',  # with a block a stage, see below
    'shufflenetv2_0.5x_metaacon',
    'tfnet_0.5',
)
GRID = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FILES]


@pytest.fixture(autouse=True)
def _one_block_a_stage(request, monkeypatch):
    """Shrink the SENet of the quick tests; the slow ones have its 154 layers."""
    callspec = getattr(request.node, 'callspec', None)
    if callspec and callspec.params.get('name') == 'senet154_relu':
        monkeypatch.setitem(senet.NUM_BLOCKS, 154, (1, 1, 1, 1))


@functools.cache
def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def build(name):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(load(name).model)


def is_heavy(name):
    """Say whether the recipe is that of ResNets."""
    return name.startswith(('resnet', 'senet'))


@pytest.mark.parametrize('size', [(500, 375), (375, 500), (256, 256), (333, 500), (1023, 259)])
def test_an_image_is_tested_as_the_authors_test_it(size, tmp_path):
    height, width = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, image)

    # OpenCV's channels are BGR, the longer side is rounded half up.
    if width < height:
        new = (256, int(256 / width * height + 0.5))
    else:
        new = (int(256 / height * width + 0.5), 256)
    resized = cv2.resize(image, new, interpolation=cv2.INTER_LINEAR)
    top, left = round((new[1] - 224) / 2), round((new[0] - 224) / 2)
    expected = resized[top : top + 224, left : left + 224].transpose(2, 0, 1)

    cfg = load('resnet50_metaacon')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        packed = Compose(cfg.test_pipeline)(dict(img_path=path, gt_label=0))
        batch = MODELS.build(cfg.model.data_preprocessor)(
            dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
        )
    assert np.array_equal(batch['inputs'][0].numpy(), expected)


def test_mmpretrains_own_resize_rounds_otherwise():
    image = np.zeros((300, 500, 3), np.uint8)  # 256 / 300 * 500 is 426.67
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        theirs = Compose([dict(type='mmpretrain.ResizeEdge', scale=256, edge='short')])
        ours = Compose([load('resnet50_metaacon').test_pipeline[1]])
    assert theirs(dict(img=image))['img'].shape == (256, 426, 3)
    assert ours(dict(img=image))['img'].shape == (256, 427, 3)


@pytest.mark.parametrize('name', IMAGENET)
def test_an_image_is_trained_on_as_the_authors_do(name):
    cfg = load(name)
    assert [type_name(step.type) for step in cfg.train_pipeline] == [
        'LoadImageFromFile',
        'RandomResizedCrop',
        'ColorJitter',
        'RandomFlip',
        'PackInputs',
    ]
    crop, jitter, flip = cfg.train_pipeline[1:4]
    assert crop.scale == 224
    assert (jitter.brightness, jitter.contrast, jitter.saturation) == (0.4, 0.4, 0.4)
    assert flip.prob == 0.5
    preprocessor = cfg.model.data_preprocessor
    assert not preprocessor.to_rgb
    assert (preprocessor.mean, preprocessor.std) == ([0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize('name', IMAGENET)
def test_batch_epochs_and_loss_are_those_of_the_authors(name):
    cfg = load(name)
    batch, epochs, lr, decay = (256, 120, 0.1, 1e-4) if is_heavy(name) else (1024, 240, 0.5, 4e-5)
    assert cfg.train_dataloader.batch_size * 8 == batch
    assert cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.train_cfg.max_epochs == epochs
    # The authors count iterations: 600,000 and 300,000.
    assert epochs * 1281167 / batch == pytest.approx(6e5 if is_heavy(name) else 3e5, rel=2e-3)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type == 'mmengine.SGD'
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (lr, 0.9, decay)
    loss = cfg.model.head.loss
    if is_heavy(name):
        assert loss.type == 'mmpretrain.CrossEntropyLoss'
    else:
        assert loss.type == 'mmpretrain.LabelSmoothLoss'
        assert loss.label_smooth_val == 0.1


@pytest.mark.filterwarnings('ignore:Detected call of')
@pytest.mark.parametrize(
    ('name', 'lr', 'iterations', 'quarter'),
    [
        ('resnet50_metaacon', 0.1, 120 * 5005, 0.75),
        ('shufflenetv2_0.5x_metaacon', 0.5, 240 * 1252, 0.75),
        ('tfnet_0.5', 0.5, 240 * 1252, (1 + 2**-0.5) / 2),
    ],
)
def test_the_learning_rate_falls_to_zero_with_every_iteration(name, lr, iterations, quarter):
    cfg = load(name)
    epoch = iterations // cfg.train_cfg.max_epochs
    assert epoch == -(-1281167 // cfg.auto_scale_lr.base_batch_size)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    (schedule,) = cfg.param_scheduler
    scheduler = PARAM_SCHEDULERS.build(
        {'end': cfg.train_cfg.max_epochs, **schedule},  # as mmengine's Runner does
        default_args=dict(optimizer=optimizer, epoch_length=epoch),
    )
    rates = np.empty(iterations)
    for index in range(iterations):
        rates[index] = optimizer.param_groups[0]['lr']
        scheduler.step()
    assert rates[0] == lr
    assert rates[iterations // 4] == pytest.approx(quarter * lr, rel=1e-4)
    assert rates[iterations // 2] == pytest.approx(lr / 2, rel=1e-4)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert (np.diff(rates) < 0).all()
    if name != 'tfnet_0.5':
        assert np.allclose(np.diff(rates), -lr / (iterations - 1), rtol=1e-6)


@pytest.mark.parametrize('name', GRID)
def test_weight_decay_follows_the_authors_rule_of_names(name):
    model = build(name)
    cfg = load(name)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = cfg.optim_wrapper.optimizer.weight_decay
    found = {id(p): g['weight_decay'] for g in optimizer.param_groups for p in g['params']}
    for parameter, p in model.named_parameters():
        decayed = 'weight' in parameter and p.dim() > 1
        assert found[id(p)] == (decay if decayed else 0), parameter
    slopes = [n for n, _ in model.named_parameters() if re.search(r'\.(p|p1|p2|beta)$', n)]
    assert bool(slopes) == bool(re.search('aconb|aconc|metaacon|swish', name))


ACTIVATIONS = {
    'relu': {'ReLU', 'ReLU6'},
    'se': {'ReLU', 'SELayer'},
    'swish': {'AconA'},
    'aconb': {'AconB'},
    'aconc': {'AconC'},
    'mish': {'Mish'},
    'elu': {'ELU'},
    'softplus': {'Softplus'},
    'metaacon': {'MetaAcon'},
}


@pytest.mark.parametrize('name', GRID)
def test_a_name_says_which_activation_is_in_the_network(name):
    modules = list(build(name).backbone.modules())
    kinds = {type(module).__name__ for module in modules}
    if name.startswith('tfnet'):
        assert 'AconFReLU' in kinds
        return
    word = re.search(r'_([a-z]+)(_|$)', re.sub(r'_[\d.]+x?', '', name))[1]
    assert kinds & ACTIVATIONS[word]
    others = set().union(*ACTIVATIONS.values()) - ACTIVATIONS[word] - {'ReLU'}
    if name.startswith('senet'):
        others.remove('SELayer')
    assert not kinds & others
    manner = re.search(r'(pixel|layer)wise', name)
    metas = [module for module in modules if type(module).__name__ == 'MetaAcon']
    assert {m.manner for m in metas} <= {f'{manner[1]}_wise' if manner else 'channel_wise'}
    if word == 'metaacon' and not manner:
        depthwise = any(m.fc1.groups > 1 for m in metas)
        assert depthwise == name.endswith('depthwise')


@pytest.mark.parametrize('name', GRID)
def test_a_network_runs_forward_and_backward_at_its_own_size(name):
    torch.manual_seed(0)
    cfg, model = load(name), build(name)
    size = 28 if name.endswith('_digits') else 224
    images = torch.rand(2, 3, size, size) * 255
    feats = model.train().extract_feat(images)
    loss = model.head.loss_module(
        model.head(feats), torch.tensor([1, cfg.model.head.num_classes - 1])
    )
    loss.backward()
    assert torch.isfinite(loss)
    for parameter, p in model.named_parameters():
        assert p.grad is not None, parameter
        assert torch.isfinite(p.grad).all(), parameter


@pytest.mark.filterwarnings("ignore:Only use 'alpha'", 'ignore:.*get_instance')
@pytest.mark.parametrize('name', GRID)
def test_a_config_trains_validates_and_tests_a_checkpoint(
    name, image_folders, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    cfg = load(name)
    root = str(image_folders(cfg.model.head.num_classes))
    options = {
        f'{split}_dataloader.{key}': value
        for split in ('train', 'val', 'test')
        for key, value in (('dataset.data_root', root), ('num_workers', 0), ('batch_size', 2))
    }
    options['train_cfg.max_epochs'] = 1
    # Norms of two images, one number each, make gradients of 1e10.
    options['optim_wrapper.optimizer.lr'] = 1e-6
    options['visualizer.name'] = name  # mmengine keeps one of a name, with its first folder
    options['default_hooks.checkpoint'] = dict(interval=1, save_optimizer=False)
    if not name.endswith('_digits'):
        options['train_dataloader.dataset.pipeline.1.scale'] = 64
        for split in ('val', 'test'):
            options[f'{split}_dataloader.dataset.pipeline.1.scale'] = (100000, 72)
            options[f'{split}_dataloader.dataset.pipeline.2.crop_size'] = 64
    config = CONFIGS / f'{name}.py'
    runner = apis.train(config, work_dir='run', cfg_options=options)
    assert runner.iter == 2
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top1').current() <= 100
    metrics = apis.test(config, 'run/epoch_1.pth', work_dir='run', cfg_options=options)
    assert 0 <= metrics['accuracy/top1'] <= 100
    shutil.rmtree('run')  # pytest keeps its folders, and SENet-154 alone is half a gigabyte


@pytest.mark.filterwarnings("ignore:Only use 'alpha'", 'ignore:.*get_instance')
def test_an_imagenet_classifier_is_tested_on_an_image_and_its_mirror_image(
    image_folders, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    name = 'shufflenetv2_0.5x_relu'
    torch.save({'state_dict': build(name).state_dict()}, 'random.pth')
    options = {
        'test_dataloader.dataset.data_root': str(image_folders(1000)),
        'test_dataloader.num_workers': 0,
        'visualizer.name': 'tta',
    }
    views, scores = [], []
    predict = ImageClassifier.predict

    def recorded(self, inputs, *args, **kwargs):
        samples = predict(self, inputs, *args, **kwargs)
        views.append(inputs)
        scores.append(torch.stack([sample.pred_score for sample in samples]))
        return samples

    monkeypatch.setattr(ImageClassifier, 'predict', recorded)
    config = CONFIGS / f'{name}.py'
    apis.test(config, 'random.pth', work_dir='run', out='p.pkl', tta=True, cfg_options=options)
    assert len(views) == 2
    assert views[0].shape == (2, 3, 224, 224)
    assert torch.equal(views[1], views[0].flip(3))
    merged = torch.stack([p['pred_score'] for p in pickle.loads(Path('p.pkl').read_bytes())])
    assert torch.allclose(merged, (scores[0] + scores[1]) / 2)


def test_digits_are_not_tested_on_mirror_images():
    for name in set(FILES) - set(IMAGENET):
        assert 'tta_pipeline' not in load(name)
