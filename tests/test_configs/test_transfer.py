"""A classifier's checkpoint starts the detector and the segmentor with the same activation."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from acon_mm import config_path
from acon_mm.checkpoints import fitting
from acon_mm.errors import PretrainedMismatchError

ACTIVATIONS = ('relu', 'swish', 'metaacon')
# Of each classifier: what starts from it.
STARTED = {
    **{
        f'resnet50_{name}': (f'detection/retinanet_r50_{name}', f'segmentation/pspnet_r50_{name}')
        for name in ACTIVATIONS
    },
    **{
        f'resnet18_{name}_digits': (
            f'detection/retinanet_r18_{name}_digits',
            f'segmentation/pspnet_r18_{name}_digits',
        )
        for name in ACTIVATIONS
    },
    'shufflenetv2_0.5x_metaacon': (
        'detection/retinanet_shufflenetv2_0.5x_metaacon',
        'segmentation/pspnet_shufflenetv2_0.5x_metaacon',
    ),
}


def load(name):
    return Config.fromfile(config_path(f'{name}.py'))


def build_backbone(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model.backbone)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Save a classifier's backbone with values of its own, and name it as the pretrained one."""

    def save(classifier):
        backbone = build_backbone(load(f'classification/{classifier}'))
        for index, value in enumerate(backbone.state_dict().values()):
            if value.is_floating_point():
                value.fill_(index)
        state = {f'backbone.{name}': v for name, v in backbone.state_dict().items()}
        path = tmp_path / f'{classifier}.pth'
        torch.save({'state_dict': state | {'head.fc.weight': torch.zeros(1)}}, path)
        monkeypatch.setenv('ACON_MM_PRETRAINED', str(path))
        return backbone

    return save


@pytest.mark.parametrize('classifier', STARTED)
def test_the_whole_backbone_of_a_classifier_arrives(classifier, checkpoint, monkeypatch):
    warned = []
    monkeypatch.setattr(fitting, 'print_log', lambda text, **kwargs: warned.append(text))
    expected = checkpoint(classifier).state_dict()
    for name in STARTED[classifier]:
        backbone = build_backbone(load(name))
        backbone.init_weights()
        arrived = backbone.state_dict()
        assert arrived.keys() == expected.keys(), name
        assert all(torch.equal(arrived[key], value) for key, value in expected.items()), name
    assert not warned


@pytest.mark.parametrize('classifier', ['resnet50_swish', 'resnet18_metaacon_digits'])
@pytest.mark.parametrize('task', [0, 1], ids=['detector', 'segmentor'])
def test_a_classifier_of_another_activation_or_depth_is_refused(classifier, task, checkpoint):
    checkpoint(classifier)
    backbone = build_backbone(load(STARTED['resnet50_metaacon'][task]))
    with pytest.raises(PretrainedMismatchError, match='unexpected: layer1'):
        backbone.init_weights()


@pytest.mark.parametrize('classifier', STARTED)
def test_pixels_reach_the_backbone_as_the_classifier_knew_them(classifier):
    """BGR, 0 to 255, in all three libraries' preprocessors."""
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    inputs = []
    for name in (f'classification/{classifier}', *STARTED[classifier]):
        preprocessor = MODELS.build(load(name).model.data_preprocessor)
        inputs.append(preprocessor({'inputs': [image], 'data_samples': None})['inputs'])
    for found in inputs:
        torch.testing.assert_close(found[0], image.float(), rtol=0, atol=0)
