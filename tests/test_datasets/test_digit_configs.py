import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from acon_mm import config_path


def build(name):
    cfg = Config.fromfile(config_path(name))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('activation', ['relu', 'swish', 'metaacon'])
def test_the_whole_pretrained_backbone_arrives_in_the_detector(activation, tmp_path, monkeypatch):
    classifier = build(f'classification/resnet18_{activation}_digits.py')
    classifier.init_weights()
    for tensor in classifier.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor))
    checkpoint = tmp_path / 'classifier.pth'
    torch.save({'state_dict': classifier.state_dict()}, checkpoint)

    monkeypatch.setenv('ACON_MM_PRETRAINED', str(checkpoint))
    detector = build(f'detection/retinanet_r18_{activation}_digits.py')
    detector.init_weights()
    expected = classifier.backbone.state_dict()
    arrived = detector.backbone.state_dict()
    assert arrived.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(arrived[name], tensor, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize('activation', ['relu', 'swish', 'metaacon'])
def test_classifier_and_detector_see_the_same_input(activation):
    """Pixels reach the pretrained backbone as it knew them: BGR, 0 to 255."""
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    inputs = []
    for name in (f'classification/resnet18_{activation}', f'detection/retinanet_r18_{activation}'):
        cfg = Config.fromfile(config_path(f'{name}_digits.py'))
        preprocessor = MODELS.build(cfg.model.data_preprocessor)
        inputs.append(preprocessor({'inputs': [image], 'data_samples': None})['inputs'])
    torch.testing.assert_close(inputs[0], inputs[1], rtol=0, atol=0)
    torch.testing.assert_close(inputs[0][0], image.float(), rtol=0, atol=0)
