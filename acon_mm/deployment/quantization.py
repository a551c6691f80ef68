"""INT8: a file whose convolutions and linear layers compute with integers."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor

from acon_mm.apis import get_model
from acon_mm.apis.config import load_config, require_keys
from acon_mm.apis.inference import Image, batches
from acon_mm.errors import UserError, requires_extra

from .export import export_model
from .formats import Function, read

SCOPES = ('mmpretrain', 'mmdet')


@dataclass(frozen=True)
class QuantizedFile:
    """What :func:`quantize_model` wrote.

    Attributes:
        path: The INT8 file.
        sizes: Bytes of the float file and of this one.
        metrics: The metrics of the config's test data, of the float file and of this one; empty
            if they were not computed.
    """

    path: Path
    sizes: tuple[int, int]
    metrics: Sequence[dict[str, float]] = ()


def quantize_model(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike,
    images: Image | Sequence[Image],
    out: str | os.PathLike,
    shape: tuple[int, int] = (224, 224),
    test: bool = False,
    keep: Sequence[str] = (),
) -> QuantizedFile:
    """Export a classifier or a detector to ONNX with free sizes, and quantise it statically.

    Weights become int8, what flows between operators uint8; onnxruntime's QDQ format. The ranges
    are the smallest and largest values that the calibration images give.

    Args:
        config: Path of a config file, a config of a package, or a config.
        checkpoint: Path or URL of the checkpoint, read by the allow-list.
        images: Calibration images as :func:`acon_mm.apis.inference` takes them: about 100 pictures
            of the training data.
        out: The file to write, with the suffix ``.onnx``.
        shape: Height and width of the example that is exported.
        test: Whether to run both files on the test data of the config.
        keep: Operators of ONNX that stay in float, such as ``'Sigmoid'``.

    Returns:
        What was written.

    Raises:
        UserError: If an argument does not fit, a package is missing, or the float file is wrong;
            see :func:`.export_model`.
    """
    path = Path(out).expanduser()
    if path.suffix != '.onnx' or not path.absolute().parent.is_dir():
        raise UserError(f'out={str(out)!r} must end in .onnx and be in a folder that exists')
    cfg = load_config(config)
    require_keys(cfg, 'model', 'default_scope', 'test_dataloader')
    if cfg.default_scope not in SCOPES:
        raise UserError(
            f'default_scope={cfg.default_scope!r} cannot be quantised; give the config of a '
            'classifier or detector (mmpretrain, mmdet)'
        )
    model = get_model(cfg, checkpoint)
    with tempfile.TemporaryDirectory(prefix='.quantize-', dir=path.absolute().parent) as folder:
        source, target = Path(folder, 'float.onnx'), Path(folder, 'int8.onnx')
        export_model(cfg, checkpoint, 'onnx', source, shape, dynamic=True, exporter='torchscript')
        _quantize(source, target, calibration(model, images), keep)
        files = (source, target)
        metrics = [evaluate(model, read(file, 'onnx')) for file in files] if test else []
        sizes = (source.stat().st_size, target.stat().st_size)
        os.replace(target, path)
    return QuantizedFile(path, sizes, metrics)


def calibration(model: BaseModel, images: Image | Sequence[Image]) -> Iterator[Tensor]:
    """Yield each picture as the network takes it, of shape ``(1, 3, H, W)``."""
    for batch in batches(model, images):
        yield _prepared(model, batch)['inputs']


@torch.no_grad()
def evaluate(model: BaseModel, function: Function) -> dict[str, float]:
    """Run a file on the test data of its model's config.

    Args:
        model: The classifier or detector, which prepares images and reads the file's outputs.
        function: The file, as :func:`.formats.read` loads it: logits or the maps of the head.

    Returns:
        The metrics by name, those of ``tools/test.py``.
    """
    cfg = model.cfg
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
        evaluator = Evaluator(cfg.test_evaluator)
        evaluator.dataset_meta = loader.dataset.metainfo
        for batch in loader:
            data = _prepared(model, batch)
            samples = data['data_samples']
            outputs = function(data['inputs'])
            if cfg.default_scope == 'mmdet':
                levels = len(outputs) // 2
                found = model.bbox_head.predict_by_feat(
                    outputs[:levels],
                    outputs[levels:],
                    batch_img_metas=[sample.metainfo for sample in samples],
                    rescale=True,
                )
                samples = model.add_pred_to_datasample(samples, found)
            else:
                samples = [
                    sample.set_pred_score(scores).set_pred_label(scores.argmax())
                    for sample, scores in zip(samples, outputs[0].softmax(1), strict=True)
                ]
            evaluator.process(data_samples=samples, data_batch=batch)
        return evaluator.evaluate(len(loader.dataset))


def _prepared(model: BaseModel, batch: Any) -> dict[str, Any]:
    return model.data_preprocessor(batch, False)


def _quantize(source: Path, target: Path, images: Iterator[Tensor], keep: Sequence[str]) -> None:
    with requires_extra('deploy', 'quantising an ONNX file'):
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict | None:
            image = next(images, None)
            return None if image is None else {'images': image.numpy()}

    folded = source.with_name('folded.onnx')
    # onnxruntime's symbolic shapes do not know all operators, and free sizes do not need them.
    quant_pre_process(source, folded, skip_symbolic_shape=True)
    nodes = onnx.load(folded).graph.node
    quantize_static(
        folded,
        target,
        Reader(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[node.name for node in nodes if node.op_type in keep],
    )
