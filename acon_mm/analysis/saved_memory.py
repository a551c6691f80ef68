"""Count the bytes that autograd saves for the backward pass."""

import weakref
from collections.abc import Callable
from itertools import chain

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def saved_bytes(function: Callable[[], object], module: nn.Module) -> int:
    """Count the bytes that autograd saves in a forward pass, each storage once.

    A view saves its whole storage. Parameters and buffers of the module are left out, since they
    exist anyway, and so is what was saved for a result that the function throws away.

    Args:
        function: Runs the forward pass and returns its results.
        module: The module that runs in it.
    """
    saved: list[weakref.ref[Tensor]] = []

    def pack(tensor: Tensor) -> Tensor:
        # A result is passed with its graph; the graph must not hold a reference to itself.
        held = tensor.detach()
        saved.append(weakref.ref(held))
        return held

    with saved_tensors_hooks(pack, lambda held: held):
        results = function()
    alive = [tensor for reference in saved if (tensor := reference()) is not None]
    sizes = {_address(tensor): tensor.untyped_storage().nbytes() for tensor in alive}
    for tensor in chain(module.parameters(), module.buffers()):
        sizes.pop(_address(tensor), None)
    del results  # the graph, which had to live until here
    return sum(sizes.values())


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
