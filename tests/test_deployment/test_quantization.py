"""An INT8 file predicts nearly what its model predicts, and its metrics are those of a test."""

import pytest
import torch

from acon_mm import config_path
from acon_mm.apis import get_model
from acon_mm.apis import test as run_test
from acon_mm.apis.config import load_config
from acon_mm.deployment.formats import operators, read
from acon_mm.deployment.quantization import calibration, evaluate, quantize_model
from acon_mm.errors import UserError

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning')
TINY = {
    'model.backbone.stem_channels': 8,
    'model.backbone.base_channels': 8,
    'model.backbone.num_stages': 2,
    'model.backbone.strides': [1, 2],
    'model.backbone.dilations': [1, 1],
    'model.backbone.out_indices': [1],
    'model.head.in_channels': 16,
}


@pytest.fixture
def tiny(digit_scenes, tmp_path):
    """A config on a few digits and a checkpoint whose logits differ from image to image."""
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    cfg = load_config(config_path('resnet18_metaacon_digits'), TINY)
    cfg.test_dataloader.dataset.data_root = str(digit_scenes / 'imagenet')
    cfg.model.data_preprocessor.update(mean=[120.0] * 3, std=[60.0] * 3)
    model = get_model(cfg)
    torch.nn.init.normal_(model.head.fc.weight)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'tiny.pth')
    return cfg, tmp_path / 'tiny.pth'


def test_an_int8_file_is_near_its_model(tiny, digit_scenes, tmp_path):
    out, images = tmp_path / 'int8.onnx', digit_scenes / 'imagenet' / 'val'
    cfg, checkpoint = tiny
    file = quantize_model(cfg, checkpoint, images, out, shape=(64, 64), test=True)
    counts = operators(out, 'onnx')[1]
    assert counts['QuantizeLinear'] > counts['Conv'] > 0
    assert out.stat().st_size == file.sizes[1]
    kept = quantize_model(cfg, checkpoint, images, tmp_path / 'k.onnx', (64, 64), keep=['Sigmoid'])
    assert operators(kept.path, 'onnx')[1]['QuantizeLinear'] < counts['QuantizeLinear']
    model = get_model(cfg, checkpoint)
    inputs = torch.cat(list(calibration(model, images)))
    with torch.no_grad():
        expected = model(inputs)
    (found,) = read(out, 'onnx')(inputs)
    error = (found - expected).pow(2).mean() / (expected - expected.mean(0)).pow(2).mean()
    assert 0 < error < 0.1
    # The float file computes what the model does, and so does a test of the model.
    tested = run_test(cfg, checkpoint, work_dir=tmp_path / 'work')
    assert file.metrics[0] == pytest.approx(tested)
    assert file.metrics[1] == evaluate(model, read(out, 'onnx'))


@pytest.mark.parametrize(
    ('name', 'out', 'said'),
    [
        ('pspnet_r18_metaacon_digits', 'x.onnx', "default_scope='mmseg' cannot be quantised"),
        ('resnet18_metaacon_digits', 'x.pt', r'must end in \.onnx'),
    ],
)
def test_what_cannot_be_quantised_is_told(name, out, said, tmp_path):
    with pytest.raises(UserError, match=said):
        quantize_model(config_path(name), tmp_path / 'none.pth', [], tmp_path / out)
