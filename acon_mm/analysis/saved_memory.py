"""Count the bytes that autograd saves for the backward pass."""

import weakref
from collections.abc import Callable
from itertools import chain

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class _Saved:
    """A saved tensor, which lives as long as the graph that needs it."""

    __slots__ = ('__weakref__', 'tensor')

    def __init__(self, tensor: Tensor) -> None:
        # Detached: a saved result has the graph as its history, and they would never be freed.
        self.tensor = tensor.detach()


def saved_bytes(function: Callable[[], object], module: nn.Module) -> int:
    """Count what a forward pass saves for the backward pass, each storage once.

    Parameters and buffers of the module are left out. What was saved for a result that is thrown
    away before the forward pass ends does not count.

    Args:
        function: Runs the forward pass and returns its results.
        module: The module that runs in it.

    Returns:
        The bytes. A view counts with the whole storage, which it keeps alive.
    """
    saved: list[weakref.ref[_Saved]] = []

    def pack(tensor: Tensor) -> _Saved:
        held = _Saved(tensor)
        saved.append(weakref.ref(held))
        return held

    with saved_tensors_hooks(pack, lambda held: held.tensor):
        results = function()
    alive = [held.tensor.untyped_storage() for held in (ref() for ref in saved) if held]
    sizes = {storage._cdata: storage.nbytes() for storage in alive}
    for tensor in chain(module.parameters(), module.buffers()):
        sizes.pop(tensor.untyped_storage()._cdata, None)
    del results  # the graph had to live until here
    return sum(sizes.values())
