"""From a config and a checkpoint to a file that was compared with the model."""

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from acon_mm.apis import get_model
from acon_mm.apis.config import load_config, require_keys
from acon_mm.errors import UserError

from .formats import EXPORTERS, SUFFIXES, operators, read, write
from .graphs import Graph, build_graph
from .latency import median_milliseconds, relu_twin
from .metadata import metadata_of
from .verification import Shape, shapes_to_compare, verify


@dataclass(frozen=True)
class ExportedFile:
    """What :func:`export_model` wrote.

    Attributes:
        path: The file.
        opset: The opset of an ONNX file, else None.
        operators: How often each operator occurs.
        differences: The largest difference from the model, relative to the largest value of the
            output, by batch, height and width; empty if nothing was compared.
        latency: Milliseconds of one image, of the file and of the file of the network with ReLU;
            None if it was not timed.
        metadata: What the file says about itself.
    """

    path: Path
    opset: int | None
    operators: Counter[str]
    differences: dict[Shape, float] = field(default_factory=dict)
    latency: tuple[float, float] | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def export_model(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None,
    to: str,
    out: str | os.PathLike | None = None,
    shape: tuple[int, int] = (224, 224),
    dynamic: bool = False,
    exporter: str = 'dynamo',
    with_nms: bool = False,
    verify_file: bool = False,
    latency: bool = False,
    threads: int = 1,
    cfg_options: dict | None = None,
) -> ExportedFile:
    """Export the deploy form of a model, without its preprocessing.

    A dynamic file is always compared with the model, at two sizes and two batches: torch can burn
    in the size of the example without a word. Nothing is left at ``out`` if a comparison fails.

    Args:
        config: Path of a config file, a config of a package, or a config.
        checkpoint: Path or URL of the checkpoint, read by the allow-list; None for new weights.
        to: ``'onnx'``, ``'torchscript'`` or ``'exported'``, a program of ``torch.export``.
        out: The file to write. Defaults to the name of the config in the current folder.
        shape: Height and width of the images.
        dynamic: Whether batch, height and width are free; otherwise the batch is 1.
        exporter: What makes an ONNX file: ``'dynamo'`` or ``'torchscript'``.
        with_nms: Whether a RetinaNet decodes its boxes and selects them, see
            :class:`.DetectorWithNMS`.
        verify_file: Whether to compare the file with the model.
        latency: Whether to time the file beside that of the network with ReLU.
        threads: How many threads onnxruntime may use while it is timed.
        cfg_options: Values to change in the config, by dotted key.

    Returns:
        What was written.

    Raises:
        UserError: If an argument does not fit, a package is missing, torch cannot express the
            model that way, or the file differs from the model by more than
            :data:`.verification.TOLERANCE`.
    """
    if to not in SUFFIXES:
        raise UserError(f'to={to!r} must be one of {", ".join(SUFFIXES)}')
    if exporter not in EXPORTERS:
        raise UserError(f'exporter={exporter!r} must be one of {", ".join(EXPORTERS)}')
    cfg = load_config(config, cfg_options)
    require_keys(cfg, 'model', 'default_scope')
    path = Path(out or Path(cfg.filename or 'model').with_suffix(SUFFIXES[to]).name).expanduser()
    if path.suffix != SUFFIXES[to] or not path.absolute().parent.is_dir():
        raise UserError(
            f'out={str(path)!r} must end in {SUFFIXES[to]} and be in a folder that exists'
        )
    model = get_model(cfg, checkpoint)
    metadata = metadata_of(model)
    graph = build_graph(model, cfg.default_scope, with_nms)
    # In the same folder, so that the file can take its place whole.
    with tempfile.TemporaryDirectory(prefix='.export-', dir=path.absolute().parent) as folder:
        file = Path(folder, path.name)
        write(graph, file, to, shape, dynamic, exporter, metadata)
        differences = {}
        if verify_file or dynamic:
            differences = verify(graph, read(file, to), shapes_to_compare(shape, dynamic))
        times = None
        if latency:
            twin = build_graph(get_model(relu_twin(cfg)), cfg.default_scope, with_nms)
            other = Path(folder, f'relu{file.suffix}')
            write(twin, other, to, shape, dynamic, exporter, {})
            times = _time(graph, [read(f, to, threads) for f in (file, other)], shape)
        opset, counts = operators(file, to)
        os.replace(file, path)
    return ExportedFile(path, opset, counts, differences, times, metadata)


def _time(graph: Graph, functions: list, shape: tuple[int, int]) -> tuple[float, float]:
    ours, relu = median_milliseconds(functions, graph.example(1, *shape))
    return ours, relu
