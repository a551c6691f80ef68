"""The initial values of the ACON authors' lightweight networks."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def draw_authors_weights(net: nn.Module, first: nn.Module) -> None:
    """Set a network's convolutions and norms to what the authors' ShuffleNetV2 starts from.

    Weights are drawn from a normal distribution around 0, with the standard deviation 0.01 in
    the first convolution and 1 over the weight's second dimension (the input channels of a
    group, so 1 where a convolution is depth-wise) in the others. Biases of convolutions become
    0; norms get the weight 1 and the bias 1e-4. Convolutions and norms inside Meta-ACON and
    squeeze-and-excitation are treated alike, the slopes of activations are not touched.

    Args:
        net: The network.
        first: The part of it that holds the first convolution.
    """
    early = set(first.modules())
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(0, 0.01 if module in early else 1 / module.weight.shape[1])
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, (_BatchNorm, nn.GroupNorm)) and module.affine:
            module.weight.fill_(1)
            module.bias.fill_(1e-4)
