"""Writing a graph to a file, and reading the file back without the graph."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from acon_mm.errors import UserError, requires_extra

from .graphs import Graph

SUFFIXES = {'onnx': '.onnx', 'torchscript': '.pt', 'exported': '.pt2'}
EXPORTERS = ('dynamo', 'torchscript')

Function = Callable[..., list[Tensor]]

_DYNAMIC = {'images': (0, 2, 3), 'image_sizes': (0,), 'score_threshold': ()}
_NAMES = {0: 'batch', 2: 'height', 3: 'width'}


def write(
    graph: Graph,
    path: Path,
    to: str,
    size: tuple[int, int],
    is_dynamic: bool,
    exporter: str,
    metadata: dict[str, str],
) -> None:
    """Export a graph.

    Args:
        graph: The module.
        path: The file to write.
        to: A key of :data:`SUFFIXES`.
        size: Height and width of the images.
        is_dynamic: Whether batch, height and width are free; otherwise the batch is 1.
        exporter: One of :data:`EXPORTERS`, for ONNX.
        metadata: Texts by name that the file holds.

    Raises:
        UserError: If torch cannot express the graph that way.
    """
    # A batch of 1, or a square, could be taken for a rule that holds for all inputs.
    inputs = graph.example(2, size[0], size[1] + 32) if is_dynamic else graph.example(1, *size)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')  # torch tells of its own deprecations
            if to == 'onnx':
                _write_onnx(graph, path, inputs, is_dynamic, exporter, metadata)
            elif to == 'torchscript':
                traced = torch.jit.trace(graph, inputs, check_trace=False)
                torch.jit.save(traced, path, _extra_files=metadata)
            else:
                program = _program(graph, inputs, is_dynamic)
                torch.export.save(program, path, extra_files=metadata)
    except UserError:
        raise
    except Exception as error:  # torch documents no type of its own
        reason = ' '.join(str(error).split())[:300]
        raise UserError(
            f'--to {to}{f" --exporter {exporter}" if to == "onnx" else ""}'
            f'{" --dynamic" if is_dynamic else ""} cannot express this model: '
            f'{type(error).__name__}: {reason}; use another format, the other exporter, or no '
            '--dynamic'
        ) from error


def _program(graph: Graph, inputs: tuple[Tensor, ...], is_dynamic: bool) -> ExportedProgram:
    shapes = [dict.fromkeys(_DYNAMIC[name], Dim.DYNAMIC) for name in graph.inputs]
    return torch.export.export(
        graph, inputs, dynamic_shapes=(tuple(shapes),) if is_dynamic else None
    )


def _write_onnx(
    graph: Graph,
    path: Path,
    inputs: tuple[Tensor, ...],
    is_dynamic: bool,
    exporter: str,
    metadata: dict[str, str],
) -> None:
    with requires_extra('deploy', '--to onnx'):
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    names: dict[str, Any] = {'input_names': graph.inputs, 'output_names': graph.outputs}
    if exporter == 'dynamo':
        source = _program(graph, inputs, is_dynamic)
        torch.onnx.export(
            source, (), path, dynamo=True, external_data=False, verbose=False, **names
        )
    else:
        axes = {name: {dim: _NAMES[dim] for dim in _DYNAMIC[name]} for name in graph.inputs}
        torch.onnx.export(
            graph, inputs, path, dynamo=False, dynamic_axes=axes if is_dynamic else None, **names
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def read(path: Path, to: str, threads: int = 1) -> Function:
    """Load a file as a function from its input tensors to the list of its outputs.

    Args:
        path: The file.
        to: A key of :data:`SUFFIXES`.
        threads: How many threads onnxruntime may use. Several spin while they wait, which takes
            minutes where another process needs one of the cores.
    """
    if to == 'onnx':
        return _read_onnx(path, threads)
    module = torch.jit.load(path) if to == 'torchscript' else torch.export.load(path).module()

    @torch.no_grad()
    def run(*tensors: Tensor) -> list[Tensor]:
        found = module(*tensors)
        return list(found) if isinstance(found, (list, tuple)) else [found]

    return run


def _read_onnx(path: Path, threads: int) -> Function:
    with requires_extra('deploy', 'comparing an ONNX file'):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    names = [value.name for value in session.get_inputs()]

    def run(*tensors: Tensor) -> list[Tensor]:
        # An input that the graph does not depend on is not in the file.
        feed = {name: t.numpy() for name, t in zip(names, tensors, strict=False)}
        return [torch.from_numpy(value) for value in session.run(None, feed)]

    return run


def operators(path: Path, to: str) -> tuple[int | None, Counter[str]]:
    """Return the opset of an ONNX file, None for others, and how often each operator occurs."""
    if to == 'onnx':
        import onnx

        model = onnx.load(path, load_external_data=False)
        opset = next(entry.version for entry in model.opset_import if not entry.domain)
        return opset, Counter(node.op_type for node in model.graph.node)
    if to == 'torchscript':
        kinds = (node.kind() for node in torch.jit.load(path).inlined_graph.nodes())
        return None, Counter(kind for kind in kinds if not kind.startswith('prim::'))
    nodes = torch.export.load(path).graph.nodes
    return None, Counter(str(node.target) for node in nodes if node.op == 'call_function')


def read_metadata(path: Path, to: str, keys: Sequence[str]) -> dict[str, str]:
    """Return the texts of a file by their names.

    Args:
        path: The file.
        to: A key of :data:`SUFFIXES`.
        keys: The names that were written, which TorchScript and exported programs ask for.
    """
    if to == 'onnx':
        import onnx

        props = onnx.load(path, load_external_data=False).metadata_props
        return {entry.key: entry.value for entry in props if entry.key in keys}
    texts: dict[str, Any] = dict.fromkeys(keys, '')
    if to == 'torchscript':
        torch.jit.load(path, _extra_files=texts)
    else:
        torch.export.load(path, extra_files=texts)
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in texts.items()}
