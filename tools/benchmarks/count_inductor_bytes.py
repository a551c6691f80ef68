"""Count the bytes that Inductor's kernels for a GPU move for ACON-C, without a GPU.

The graphs are those of a training step on the CPU. Then the machine pretends to have an H100, the
graphs are lowered for it on tensors without memory, and Inductor's own count is printed, in bytes
of the map (N). Nothing is compiled or run. It was written for torch 2.14 and pretends a good deal:
another version may need other pretences.

Examples:
    python tools/benchmarks/count_inductor_bytes.py
"""

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from torch import Tensor
from torch._dynamo.device_interface import CudaInterface
from torch._functorch.aot_autograd import make_boxed_func
from torch._guards import TracingContext, tracing
from torch._inductor import compile_fx, config, scheduler
from torch._inductor.graph import GraphLowering
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from triton.backends.compiler import GPUTarget

from acon_mm.ops import acon
from acon_mm.ops.formula import acon_formula

SHAPE = (8, 64, 56, 56)
H100 = SimpleNamespace(
    name='NVIDIA H100',
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 << 30,
    regs_per_multiprocessor=65536,
    warp_size=32,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    L2_cache_size=50 << 20,
    gcnArchName='',
)


class Graph(NamedTuple):
    """A graph of a training step, before it is lowered.

    Attributes:
        module: The graph.
        inputs: Shape, strides and dtype of each tensor, other inputs as they are.
        is_backward: Whether it is that of the backward pass.
    """

    module: torch.fx.GraphModule
    inputs: list[Any]
    is_backward: bool


def training_graphs(function: Callable[..., Tensor], dtype: torch.dtype) -> list[Graph]:
    """Return the graphs of a training step that Inductor would lower."""
    graphs: list[Graph] = []

    def keep(module: torch.fx.GraphModule, inputs: list[Any], **options: Any) -> Any:
        described = [
            (tuple(t.shape), t.stride(), t.dtype) if isinstance(t, Tensor) else t for t in inputs
        ]
        graphs.append(Graph(module, described, options.get('is_backward', False)))
        return make_boxed_func(module.forward)

    torch.compiler.reset()
    x = torch.empty(SHAPE, dtype=dtype, requires_grad=True)
    params = [torch.empty(SHAPE[1], requires_grad=True) for _ in range(3)]
    compiled = torch.compile(
        function,
        fullgraph=True,
        backend=lambda module, inputs: compile_fx.compile_fx(module, inputs, inner_compile=keep),
    )
    y = compiled(x, *params)
    y.backward(torch.empty_like(y))
    return graphs


@contextlib.contextmanager
def pretended_gpu() -> Iterator[list[float]]:
    """Pretend that there is an H100; yield the list that the counts of lowered graphs go to."""
    counts: list[float] = []

    def lower(graph: Any) -> SimpleNamespace:
        graph.codegen()
        counts.append(graph.count_bytes()[0])
        return SimpleNamespace(call=None, runner=None, __file__='', key='')

    driver = SimpleNamespace(get_current_target=lambda: GPUTarget('cuda', 90, 32))
    answers: list[tuple[Any, dict[str, Any]]] = [
        (
            torch.cuda,
            dict(
                is_available=True,
                device_count=1,
                current_device=0,
                get_device_properties=H100,
                get_device_capability=(9, 0),
                _exchange_device=0,
                _maybe_exchange_device=0,
                get_rng_state=torch.zeros(16, dtype=torch.uint8),
                set_rng_state=None,
            ),
        ),
        (
            CudaInterface,
            dict(
                is_available=True,
                get_device_properties=H100,
                get_compute_capability=90,
                raise_if_triton_unavailable=None,
            ),
        ),
        (CudaInterface.Worker, dict(get_device_properties=H100, current_device=0)),
        (scheduler, dict(has_triton=True)),
    ]
    with contextlib.ExitStack() as stack:
        for owner, names in answers:
            for name, answer in names.items():
                stack.enter_context(
                    mock.patch.object(owner, name, lambda *args, a=answer, **options: a)
                )
        stack.enter_context(mock.patch.object(triton.runtime.driver, '_active', driver))
        stack.enter_context(mock.patch.object(triton.runtime.driver, '_default', driver))
        stack.enter_context(mock.patch.object(GraphLowering, 'compile_to_module', lower))
        yield counts


def lower(graph: Graph) -> float:
    """Return what the kernels of a graph read and write, in bytes of the map."""
    with pretended_gpu() as counts, FakeTensorMode() as mode:
        inputs = [
            torch.empty_strided(each[0], each[1], dtype=each[2], device='cuda')
            if isinstance(each, tuple)
            else each
            for each in graph.inputs
        ]
        FakeTensorProp(graph.module, mode).propagate(*inputs)
        with tracing(TracingContext(mode)):
            compile_fx.compile_fx_inner(graph.module, inputs, is_backward=graph.is_backward)
    return counts[0] / max(t.nbytes for t in inputs if isinstance(t, Tensor))


def main() -> None:
    """Print the table."""
    config.fx_graph_cache = False
    torch._functorch.config.enable_autograd_cache = False
    print('| dtype | what Inductor gets | forward | backward |\n| --- | --- | ---: | ---: |')
    for dtype in (torch.float32, torch.bfloat16):
        for name, function in (('the bare formula', acon_formula), ('acon()', acon)):
            forward, backward = (
                f'{lower(graph):.1f}' for graph in training_graphs(function, dtype)
            )
            print(f'| {str(dtype)[6:]} | {name} | {forward} N | {backward} N |', flush=True)


if __name__ == '__main__':
    main()
