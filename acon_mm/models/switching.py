"""Record the slopes and switching factors that a network computes, layer by layer."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .activations.acon import ConstantFactorActivation
from .activations.meta_acon import MetaAcon


@dataclass
class LayerFactors:
    """What one activation computes with.

    Attributes:
        p1: The slope for large inputs, a float tensor of shape ``(C,)``.
        p2: The slope for small inputs, of shape ``(C,)``.
        calls: The switching factors of each call, float tensors of shape ``(N, C)``, ``(N, 1)``
            or ``(N, C, H, W)`` as :meth:`.MetaAcon.switching_factor` returns them. An activation
            whose factors do not depend on the input has one, of shape ``(1, C)``.
        depends_on_input: Whether they do.
    """

    p1: Tensor
    p2: Tensor
    calls: list[Tensor] = field(default_factory=list)
    depends_on_input: bool = False

    @property
    def depends_on_place(self) -> bool:
        """Whether each pixel has factors of its own."""
        return any(beta.dim() > 2 for beta in self.calls)


def switching_activations(network: nn.Module) -> dict[str, ConstantFactorActivation | MetaAcon]:
    """Return the activations with a switching factor by their names, in the order of the network.

    These are AconA, AconB, AconC and MetaAcon. AconFReLU has the constant factor 1, and ReLU and
    SiLU have none.
    """
    kinds = (ConstantFactorActivation, MetaAcon)
    return {name: m for name, m in network.named_modules() if isinstance(m, kinds)}


@contextmanager
def record_factors(
    network: nn.Module, keep: Callable[[Tensor], Tensor] = lambda beta: beta
) -> Iterator[dict[str, LayerFactors]]:
    """Record slopes and switching factors of the calls in the body of a ``with`` statement.

    Only Meta-ACON gets a hook. A norm and an activation with a hook are called one after the
    other, see :func:`.norm_act`: what they compute may differ in the last bit from the operator
    that computes both. Running statistics and gradients are what they would be without hooks. In
    training mode a factor is computed with the statistics of the batch, as the activation does.

    Args:
        network: The network, in either mode.
        keep: What to keep of the switching factors of a call, such as some of their elements.

    Yields:
        What was recorded, by the names of the activations in the network. A Meta-ACON that was
        not called has no factors.

    Examples:
        >>> import torch
        >>> from acon_mm.models import AconC
        >>> with record_factors(nn.Sequential(AconC(3))) as layers:
        ...     pass
        >>> layers['0'].calls
        [tensor([[1., 1., 1.]])]
    """
    layers, handles = {}, []
    for name, module in switching_activations(network).items():
        if isinstance(module, ConstantFactorActivation):
            p1, p2, beta = (_row(value, module) for value in module.constants())
            layers[name] = LayerFactors(p1, p2, [keep(beta[None])])
            continue
        p1, p2 = (_row(value, module) for value in (module.p1, module.p2))
        layers[name] = LayerFactors(p1, p2, depends_on_input=True)
        handles.append(module.register_forward_hook(_hook(layers[name], keep)))
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()


def _row(value: Tensor | float, module: ConstantFactorActivation | MetaAcon) -> Tensor:
    """Return a parameter as a float32 tensor of shape (C,) of its own."""
    return torch.as_tensor(value).detach().float().expand(module.num_channels).clone()


def _hook(layer: LayerFactors, keep: Callable[[Tensor], Tensor]) -> Callable:
    def see(module: MetaAcon, args: tuple[Tensor, ...], output: Tensor) -> None:
        (x,) = args
        with torch.no_grad():
            x = x.detach()
            x = x.movedim(-1, 1) if module.channel_dim == -1 else x
            layer.calls.append(keep(_twin(module).switching_factor(x).float()))

    return see


def _twin(module: Any) -> Any:
    """Return a module with the same parameters, without hooks, and with buffers of its own."""
    twin = copy.copy(module)
    buffers = {k: b if b is None else b.clone() for k, b in module._buffers.items()}
    children = {k: m and _twin(m) for k, m in module._modules.items()}
    hooks: dict[str, Any] = {
        f'_{kind}_hooks': OrderedDict() for kind in ('forward', 'forward_pre')
    }
    twin.__dict__.update(hooks, _buffers=buffers, _modules=children)
    return twin
