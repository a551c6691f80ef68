"""Run a network once to see its activations at work: where, in which order and on what."""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

_GATES = frozenset(
    (
        *(torch.sigmoid, torch.sigmoid_, F.sigmoid, Tensor.sigmoid, Tensor.sigmoid_),
        *(torch.softmax, F.softmax, Tensor.softmax, torch.tanh, F.tanh, Tensor.tanh),
        F.hardsigmoid,
    )
)
_GATE_CLASSES = ('HSigmoid', 'Hardsigmoid')
_FUNCTIONS = {
    function: name
    for name in ('relu', 'relu_', 'relu6', 'leaky_relu', 'silu', 'gelu', 'mish', 'elu', 'prelu')
    for owner in (F, torch, Tensor)
    if (function := getattr(owner, name, None)) is not None
} | {F.hardswish: 'hardswish'}
_HERE = (str(Path(__file__).parent), str(Path(torch.__file__).parent))


@dataclass(frozen=True)
class Event:
    """An activation or a gate is called.

    Attributes:
        name: The name of the activation's module; None for a sigmoid, softmax or tanh.
        shape: The shape of its input.
        layer: The convolution, linear layer or norm that was called before it.
        conv: The convolution or linear layer that was called before it.
    """

    name: str | None
    shape: tuple[int, ...]
    layer: nn.Module | None
    conv: nn.Module | None


@dataclass
class Trace:
    """What one run showed.

    Attributes:
        events: In the order of the calls.
        functions: The places at which a function such as ``F.relu`` is called.
        overwritten: The activations whose inputs the network changes in place later on. ReLU does
            not mind, as its gradient follows from its output; that of ACON needs the input.
    """

    events: list[Event] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    overwritten: set[str] = field(default_factory=set)

    def calls(self, name: str) -> list[Event]:
        """Return the calls of an activation."""
        return [event for event in self.events if event.name == name]


def dry_run(
    network: nn.Module,
    activations: Mapping[str, nn.Module],
    run: Callable[[], Any],
    training: bool = False,
) -> Trace:
    """Run a network and record the calls of its activations.

    The network is as before afterwards: its modes, its buffers, and torch's random numbers. Batch
    norms use their running statistics, so that one sample is enough, and no activation works in
    place, as ACON does not.

    Args:
        network: The network.
        activations: Those of its modules that are recorded, by name.
        run: What runs it.
        training: Whether it is in training mode meanwhile.

    Returns:
        What was recorded.
    """
    trace = Trace()
    recorder = _Recorder(trace)
    with ExitStack() as stack:
        stack.enter_context(_unchanged(network))
        stack.enter_context(_out_of_place(activations.values()))
        stack.enter_context(torch.no_grad())
        for name, module in network.named_modules():
            recorder.watch(stack, name, module)
        for name, module in activations.items():
            recorder.watch_activation(stack, name, module)
        stack.enter_context(recorder)
        network.train(training)
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        run()
    for name, x, value in recorder.inputs:
        if not torch.equal(x, value):
            trace.overwritten.add(name)
    return trace


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffer, value in buffers:
            buffer.copy_(value)


@contextmanager
def _out_of_place(activations: Iterable[nn.Module]) -> Iterator[None]:
    changed: list[Any] = [module for module in activations if getattr(module, 'inplace', False)]
    for module in changed:
        module.inplace = False
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True


class _Recorder(TorchFunctionMode):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.running: list[str] = []
        self.layer: nn.Module | None = None
        self.conv: nn.Module | None = None
        self.in_activation = 0
        self.inputs: list[tuple[str, Tensor, Tensor]] = []

    def watch(self, stack: ExitStack, name: str, module: nn.Module) -> None:
        """Follow which module is running, and which layer ran last."""

        def enter(module: nn.Module, args: tuple) -> None:
            self.running.append(name)

        def leave(module: nn.Module, args: tuple, output: Any) -> None:
            self.running.pop()
            if channel_dim_of(module) is not None:
                self.layer = module
                if not hasattr(module, 'eps'):
                    self.conv = module
            if type(module).__name__ in _GATE_CLASSES and not self.in_activation:
                self._add(None, args[0])

        self._hook(stack, module, enter, leave)

    def watch_activation(self, stack: ExitStack, name: str, module: nn.Module) -> None:
        """Record the calls of an activation."""

        def enter(module: nn.Module, args: tuple) -> None:
            self._add(name, args[0])
            self.inputs.append((name, args[0], args[0].clone()))
            self.in_activation += 1

        def leave(module: nn.Module, args: tuple, output: Any) -> None:
            self.in_activation -= 1

        self._hook(stack, module, enter, leave)

    @staticmethod
    def _hook(stack: ExitStack, module: nn.Module, enter: Callable, leave: Callable) -> None:
        stack.enter_context(module.register_forward_pre_hook(enter))
        stack.enter_context(module.register_forward_hook(leave))

    def _add(self, name: str | None, x: Tensor) -> None:
        self.trace.events.append(Event(name, tuple(x.shape), self.layer, self.conv))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if self.in_activation:
            pass
        elif func in _GATES:
            self._add(None, args[0])
        elif func in _FUNCTIONS:
            place = f'{_FUNCTIONS[func]} in {self.running[-1] or "forward"}{_caller()}'
            if place not in self.trace.functions:
                self.trace.functions.append(place)
        return func(*args, **(kwargs or {}))


def _caller() -> str:
    """Return the file and line that called a function of torch."""
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(_HERE):
            return f' ({Path(frame.filename).name}:{frame.lineno})'
    return ''


def channel_dim_of(layer: nn.Module) -> int | None:
    """Return where the channels are in the output of a layer with weights: 1 or -1.

    None for any other module.
    """
    if isinstance(layer, (nn.Linear, nn.LayerNorm)):
        return -1
    if hasattr(layer, 'weight') and hasattr(layer, 'kernel_size'):
        return 1
    return 1 if isinstance(layer, (_BatchNorm, nn.GroupNorm)) else None
