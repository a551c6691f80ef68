"""Files compute what the model computes, at every size and batch, or they are not written."""

import json
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from torch import nn

from acon_mm import config_path
from acon_mm.apis import get_model, inference
from acon_mm.apis.config import load_config
from acon_mm.deployment import export_model, verify
from acon_mm.deployment.detection import DetectorWithNMS
from acon_mm.deployment.formats import read, read_metadata
from acon_mm.deployment.graphs import Graph, build_graph
from acon_mm.deployment.latency import relu_twin
from acon_mm.deployment.pooling import MatrixPool2d
from acon_mm.errors import UserError

NAMES = {
    'mmpretrain': 'resnet18_metaacon_digits',
    'mmdet': 'retinanet_r18_metaacon_digits',
    'mmseg': 'pspnet_r18_metaacon_digits',
}
TINY = {
    'mmpretrain': {
        'backbone.num_stages': 2,
        'backbone.strides': [1, 2],
        'backbone.dilations': [1, 1],
        'backbone.out_indices': [1],
        'head.in_channels': 16,
    },
    'mmdet': {
        'neck.in_channels': [8, 16, 32, 64],
        'neck.out_channels': 16,
        'bbox_head.in_channels': 16,
        'bbox_head.feat_channels': 16,
        'bbox_head.stacked_convs': 1,
    },
    'mmseg': {
        'decode_head.in_channels': 32,
        'decode_head.channels': 8,
        'auxiliary_head.in_channels': 16,
        'auxiliary_head.channels': 8,
    },
}
# The coarsest map of a detector has a stride of 128 pixels, and a map of one pixel is a rule.
SIZES = {'mmpretrain': (64, 64), 'mmdet': (160, 160), 'mmseg': (64, 64)}
FORMATS = {
    'dynamo': dict(to='onnx', exporter='dynamo'),
    'torchscript_onnx': dict(to='onnx', exporter='torchscript'),
    'torchscript': dict(to='torchscript'),
    'exported': dict(to='exported'),
}
QUICK = [
    *(('mmpretrain', name) for name in FORMATS),
    *(
        (scope, name)
        for scope in ('mmdet', 'mmseg')
        for name in ('torchscript_onnx', 'torchscript')
    ),
]
CASES = [
    pytest.param(scope, name, marks=[] if (scope, name) in QUICK else pytest.mark.slow)
    for scope in NAMES
    for name in FORMATS
]
SUFFIXES = {'onnx': '.onnx', 'torchscript': '.pt', 'exported': '.pt2'}
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning')


def config_of(scope):
    options = {'backbone.stem_channels': 8, 'backbone.base_channels': 8, **TINY[scope]}
    cfg = load_config(config_path(NAMES[scope]), {f'model.{k}': v for k, v in options.items()})
    # Other constants than those of the config, which would normalise nothing.
    mean, std = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
    cfg.model.data_preprocessor.update(mean=mean, std=std)
    return cfg


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """A checkpoint of each task with parameters and statistics that are not the first ones."""
    folder = tmp_path_factory.mktemp('checkpoints')
    paths = {}
    for scope in NAMES:
        torch.manual_seed(0)
        model = get_model(config_of(scope))
        for name, value in model.state_dict().items():
            if name.endswith(('.p1', '.p2', 'running_mean')):
                value.normal_(1 if name.endswith('.p1') else 0, 0.2)
            elif name.endswith('running_var'):
                value.uniform_(0.5, 2)
        paths[scope] = str(folder / f'{scope}.pth')
        torch.save({'state_dict': model.state_dict()}, paths[scope])
    return paths


def picture(height, width):
    blocks = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)


def leaves(outputs):
    return torch.utils._pytree.tree_leaves(outputs)


@pytest.mark.parametrize(('scope', 'name'), CASES)
def test_a_dynamic_file_computes_what_the_model_computes(scope, name, checkpoints, tmp_path):
    kwargs = FORMATS[name]
    if kwargs['to'] == 'onnx':
        pytest.importorskip('onnxscript')
        pytest.importorskip('onnxruntime')
    cfg, size = config_of(scope), SIZES[scope]
    out = tmp_path / f'net{SUFFIXES[kwargs["to"]]}'
    file = export_model(cfg, checkpoints[scope], out=out, shape=size, dynamic=True, **kwargs)
    assert len({shape[0] for shape in file.differences}) == 2
    assert len({shape[1:] for shape in file.differences}) == 2
    model = get_model(cfg, checkpoints[scope])  # not in deploy form
    function = read(out, kwargs['to'])
    for batch, extra in ((2, 0), (1, 64)):
        x = torch.randn(batch, 3, size[0] + extra, size[1] + 2 * extra)
        with torch.no_grad():
            if scope == 'mmseg':
                logits = model(x, mode='tensor')
                expected = [nn.functional.interpolate(logits, x.shape[2:], mode='bilinear')]
            else:
                expected = leaves(model(x, mode='tensor'))
        for output, target in zip(function(x), expected, strict=True):
            assert target.std() > 0
            scale = float(target.abs().max())
            torch.testing.assert_close(output, target, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    'name',
    [
        'torchscript_onnx',
        'torchscript',
        pytest.param('dynamo', marks=pytest.mark.slow),
        pytest.param('exported', marks=pytest.mark.slow),
    ],
)
def test_boxes_of_a_file_with_nms_are_those_that_mmdet_predicts(name, checkpoints, tmp_path):
    kwargs = FORMATS[name]
    if kwargs['to'] == 'onnx':
        pytest.importorskip('onnxscript')
        pytest.importorskip('onnxruntime')
    cfg = config_of('mmdet')
    out = tmp_path / f'net{SUFFIXES[kwargs["to"]]}'
    export_model(
        cfg, checkpoints['mmdet'], out=out, shape=(160, 160), dynamic=True, with_nms=True, **kwargs
    )
    model = get_model(cfg, checkpoints['mmdet'])
    model.bbox_head.test_cfg.score_thr = 0.003  # of new weights the scores are near 0.01
    sizes = [(130, 200), (160, 170)]  # both are padded
    samples = [
        DetDataSample(metainfo=dict(img_shape=s, ori_shape=s, scale_factor=(1.0, 1.0)))
        for s in sizes
    ]
    pictures = [torch.from_numpy(picture(160, 200)).permute(2, 0, 1)[:, :h, :w] for h, w in sizes]
    batch = model.data_preprocessor({'inputs': pictures, 'data_samples': samples})
    with torch.no_grad():
        predicted = model.predict(batch['inputs'], batch['data_samples'])
    threshold = torch.tensor([model.bbox_head.test_cfg.score_thr])
    boxes, labels = read(out, kwargs['to'])(batch['inputs'], torch.tensor(sizes), threshold)
    for found, kinds, sample in zip(boxes, labels, predicted, strict=True):
        target = sample.pred_instances
        count = int((kinds >= 0).sum())
        assert count == len(target) > 10
        torch.testing.assert_close(found[:count, :4], target.bboxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(found[:count, 4], target.scores, rtol=0, atol=1e-5)
        assert torch.equal(kinds[:count], target.labels)
        assert not found[count:].any()


class BurntIn(nn.Module):
    """Take the mean over rows whose number a tracer takes for a constant."""

    def forward(self, x):
        return x.sum(2) / int(x.shape[2])


def test_a_size_that_was_burnt_in_is_found():
    graph = Graph(BurntIn(), ['images'], ['mean'], nn.Identity())
    with pytest.warns(torch.jit.TracerWarning):
        traced = torch.jit.trace(graph, graph.example(1, 32, 32))

    def function(*tensors):
        return [traced(*tensors)]

    assert verify(graph, function, [(1, 32, 32), (3, 32, 64)])
    with pytest.raises(UserError, match='1 images of 64×32 its output differs by 1 of'):
        verify(graph, function, [(1, 32, 32), (1, 64, 32)])


def test_nothing_is_written_if_the_file_is_wrong(checkpoints, tmp_path, monkeypatch):
    out = tmp_path / 'net.pt'
    out.write_text('an earlier file')
    monkeypatch.setattr(
        'acon_mm.deployment.export.read', lambda *_: lambda x: [torch.zeros(len(x), 10)]
    )
    arguments = (config_of('mmpretrain'), checkpoints['mmpretrain'], 'torchscript', out)
    with pytest.raises(UserError, match='the file is wrong'):
        export_model(*arguments, shape=(64, 64), verify_file=True)
    assert out.read_text() == 'an earlier file'
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_dynamo_with_torchs_own_pooling_gives_no_file(checkpoints, tmp_path, monkeypatch):
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    monkeypatch.setattr('acon_mm.deployment.graphs.replace_adaptive_pools', lambda model: None)
    out = tmp_path / 'net.onnx'
    with pytest.raises(UserError, match=r'the file is wrong|cannot express|refuses'):
        export_model(
            config_of('mmseg'), checkpoints['mmseg'], 'onnx', out, shape=(64, 64), dynamic=True
        )
    assert not out.exists()


@pytest.mark.parametrize('size', [(7, 13), (6, 6), (5, 2), (30, 31)])
def test_matrix_pool_is_adaptive_pool(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    for output_size in ((2, 2), (3, 5), (6, 6)):
        torch.testing.assert_close(
            MatrixPool2d(output_size)(x), nn.AdaptiveAvgPool2d(output_size)(x)
        )


def test_the_metadata_is_enough_to_prepare_a_picture(checkpoints, tmp_path):
    cfg = config_of('mmpretrain')
    out = tmp_path / 'net.pt'
    file = export_model(cfg, checkpoints['mmpretrain'], 'torchscript', out, shape=(64, 64))
    meta = read_metadata(out, 'torchscript', list(file.metadata))
    assert meta == file.metadata
    image = picture(64, 64)
    values = torch.from_numpy(
        image[..., ::-1].copy() if json.loads(meta['swap_channels']) else image
    )
    mean, std = (torch.tensor(json.loads(meta[key])) for key in ('mean', 'std'))
    (logits,) = read(out, 'torchscript')(((values - mean) / std).permute(2, 0, 1)[None])
    (sample,) = inference(get_model(cfg, checkpoints['mmpretrain']), image)
    torch.testing.assert_close(logits.softmax(1)[0], sample.pred_score)


def test_the_relu_twin_differs_in_its_activations_only():
    cfg = config_of('mmdet')
    before = deepcopy(cfg)
    model, twin = get_model(cfg), get_model(relu_twin(cfg))
    assert cfg.model == before.model
    assert not any(name.endswith('.p1') for name in twin.state_dict())
    assert twin.state_dict().keys() < model.state_dict().keys()
    with pytest.raises(UserError, match='no activation of acon_mm'):
        relu_twin(relu_twin(cfg))


def test_what_cannot_be_exported_is_told(checkpoints, tmp_path, monkeypatch):
    detector = get_model(config_of('mmdet'))
    detector.bbox_head.test_cfg.nms.type = 'soft_nms'
    with pytest.raises(UserError, match="nms=dict\\(type='nms'"):
        DetectorWithNMS(detector)
    detector.bbox_head = nn.Identity()
    with pytest.raises(UserError, match='not for Identity'):
        DetectorWithNMS(detector)
    with pytest.raises(UserError, match='default_scope='):
        build_graph(get_model(config_of('mmpretrain')), 'mmpretrain', with_nms=True)
    with pytest.raises(UserError, match=r'must end in \.pt '):
        export_model(config_of('mmpretrain'), None, 'torchscript', tmp_path / 'net.onnx')
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(UserError, match="pip install 'acon_mm\\[deploy\\]'"):
        export_model(config_of('mmpretrain'), None, 'onnx', tmp_path / 'net.onnx')


def test_the_tool_prints_operators_differences_and_the_ratio(repo_root, checkpoints, tmp_path):
    config = tmp_path / 'tiny.py'
    config_of('mmpretrain').dump(config)
    options = f'--to torchscript --shape 64 --verify --latency --out {tmp_path}/net.pt'
    result = subprocess.run(
        [
            *(sys.executable, 'tools/deployment/export.py', config, checkpoints['mmpretrain']),
            *options.split(),
        ],
        cwd=repo_root,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    for text in ('aten::_convolution ×', 'size_divisor: 1', 'differs from PyTorch', ' times'):
        assert text in result.stdout
