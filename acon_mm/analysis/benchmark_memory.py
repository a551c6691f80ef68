"""Count what autograd keeps for the backward pass, and the peak of a training step's memory."""

import ctypes
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Make the C library reuse freed memory instead of giving it back to the system.

    What it gives back it has to ask for again, page by page: a page fault costs more than filling
    the page, and which call pays for it is a matter of what ran before.

    Returns:
        Whether the C library can be told so, as glibc can.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_MMAP_MAX, 0))


@dataclass(frozen=True)
class KeptTensor:
    """Memory that a graph keeps for its backward pass.

    Attributes:
        shape: The shape of the first tensor that was saved of it.
        dtype: The dtype of that tensor.
        nbytes: The size of the whole storage in bytes: a view keeps all of it.
        savers: The names of the submodules that saved it, in the order of the forward pass;
            ``''`` is the module itself, or what is not told.
        storage: The identity of the storage.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    nbytes: int
    savers: tuple[str, ...]
    storage: int


class _Saved:
    """A tensor in the hands of autograd, with the name of the module that saved it."""

    __slots__ = ('__weakref__', 'saver', 'tensor')

    def __init__(self, tensor: Tensor, saver: str) -> None:
        # Autograd hands over results with their graph, which would hold itself up in a circle.
        self.tensor = tensor.detach()
        self.saver = saver


def kept_tensors(
    function: Callable[[], object], module: nn.Module, name_savers: bool = False
) -> list[KeptTensor]:
    """List what autograd keeps after a forward pass, each storage once.

    Parameters and buffers of the module are left out, since they are there anyway. A tensor that
    is saved for a result which is then thrown away does not count.

    Args:
        function: Runs the forward pass and returns its results.
        module: The module that runs in it.
        name_savers: Whether to tell which submodule saved what. It takes hooks, for which a
            compiled module would be compiled anew.

    Returns:
        The storages, in the order of the forward pass.
    """
    saved: list[weakref.ref[_Saved]] = []
    with _running_submodule(module) if name_savers else nullcontext(['']) as running:

        def pack(tensor: Tensor) -> _Saved:
            held = _Saved(tensor, running[-1])
            saved.append(weakref.ref(held))
            return held

        with saved_tensors_hooks(pack, lambda held: held.tensor):
            results = function()
    there = {storage_of(t) for t in chain(module.parameters(), module.buffers())}
    kept: dict[int, list[_Saved]] = {}
    for held in filter(None, (reference() for reference in saved)):
        if storage_of(held.tensor) not in there:
            kept.setdefault(storage_of(held.tensor), []).append(held)
    del results  # the graph, which had to live until here
    return [
        KeptTensor(
            shape=tuple(group[0].tensor.shape),
            dtype=group[0].tensor.dtype,
            nbytes=group[0].tensor.untyped_storage().nbytes(),
            savers=tuple(dict.fromkeys(held.saver for held in group)),
            storage=storage,
        )
        for storage, group in kept.items()
    ]


def kept_bytes(function: Callable[[], object], module: nn.Module) -> int:
    """Return the bytes of :func:`kept_tensors`."""
    return sum(kept.nbytes for kept in kept_tensors(function, module))


def peak_bytes(function: Callable[[], object], device: str) -> int:
    """Return how many bytes a function holds at its peak beyond what was held before.

    They are those of torch's allocator. What libraries take without it is not counted, such as
    the scratch memory of oneDNN's convolutions.

    Args:
        function: Any function.
        device: ``'cpu'`` or ``'cuda'``.

    Returns:
        The bytes, at least 0.
    """
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # The CPU's allocator keeps no statistics, but it tells the profiler of every call.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = profiler.profiler.kineto_results.events()
    calls = sorted((e for e in events if e.name() == '[memory]'), key=lambda e: e.start_ns())
    return max(accumulate((e.nbytes() for e in calls), initial=0))


def storage_of(tensor: Tensor) -> int:
    """Return the identity of a tensor's memory, for as long as the tensor lives."""
    # Not data_ptr(), which is 0 for every empty tensor.
    return tensor.untyped_storage()._cdata


@contextmanager
def _running_submodule(module: nn.Module) -> Iterator[list[str]]:
    """Yield the names of the submodules that are running, the innermost last."""
    running = ['']
    handles = []
    for name, child in module.named_modules():
        handles += [
            child.register_forward_pre_hook(lambda *_, name=name: running.append(name)),
            child.register_forward_hook(lambda *_: _drop(running), always_call=True),
        ]
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


def _drop(running: list[str]) -> None:
    # A hook that returns something replaces the module's output.
    running.pop()
