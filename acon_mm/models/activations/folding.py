"""Fold what is constant at inference, and tell all activations of a network to."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def fold_norm(conv: nn.Conv2d, norm: nn.Module) -> nn.Module:
    """Fold a batch norm, with its running statistics, into the convolution before it.

    Args:
        conv: The convolution; its weight and bias change, in place, and it gets a bias if it has
            none. The product is computed in float64.
        norm: The layer after it.

    Returns:
        The new layer after it: an identity, or ``norm`` itself if that is no batch norm with
        running statistics.
    """
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
        return norm
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale = scale * norm.weight.double()
        shift = shift * norm.weight.double() + norm.bias.double()
    if conv.bias is None:
        conv.bias = nn.Parameter(torch.zeros_like(norm.running_mean), requires_grad=False)
    else:
        shift = shift + conv.bias.double() * scale
    conv.bias.copy_(shift)
    conv.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
    return nn.Identity()


def switch_activations_to_deploy(net: nn.Module) -> None:
    """Call ``switch_to_deploy()`` of all parts of a network that have the method.

    Args:
        net: The network; it is changed. Its own method of that name is not called.
    """
    for module in list(net.modules()):
        switch = getattr(module, 'switch_to_deploy', None)
        if module is not net and switch is not None:
            switch()
