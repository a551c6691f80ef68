"""What one block of a network keeps for its backward pass, tensor by tensor."""

from dataclasses import dataclass

import torch

from .benchmark_memory import KeptTensor, kept_tensors, storage_of
from .benchmark_networks import Network, build_network, make_batch


@dataclass(frozen=True)
class BlockResult:
    """What one block keeps with one activation.

    Attributes:
        network: The network of the block.
        row: The name of the activation's row.
        kind: The name of the block's class.
        shape: The shape of the block's input.
        kept: What the block keeps, in the order of the forward pass. The savers are names of its
            submodules.
        given: Which of them is the block's input, the output of the block before.
    """

    network: Network
    row: str
    kind: str
    shape: tuple[int, ...]
    kept: tuple[KeptTensor, ...]
    given: KeptTensor | None

    @property
    def nbytes(self) -> int:
        """The bytes that the block keeps in all."""
        return sum(kept.nbytes for kept in self.kept)


def measure_block(network: Network, row: str, device: str = 'cpu') -> BlockResult:
    """List what a network's typical block keeps when the network is trained.

    Args:
        network: A network with a ``block``.
        row: The name of an activation's row, see ``NETWORK_ROWS``.
        device: ``'cpu'`` or ``'cuda'``.

    Returns:
        The result.
    """
    model = build_network(network, row, device)
    block = model.backbone.get_submodule(network.block)
    inputs = []
    with (
        block.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone())),
        torch.no_grad(),
    ):
        model(make_batch(network, device)[0])
    x = inputs[0].requires_grad_()
    kept = tuple(kept_tensors(lambda: block(x), block, name_savers=True))
    given = next((k for k in kept if k.storage == storage_of(x)), None)
    return BlockResult(network, row, type(block).__name__, tuple(x.shape), kept, given)
