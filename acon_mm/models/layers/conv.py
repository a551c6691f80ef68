"""The unit the lightweight networks are made of: convolution, norm, activation."""

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from acon_mm.models.activations import build_activation

from .norm_act import norm_act


class ConvNormAct(nn.Module):
    """Apply a convolution that keeps the size (at stride 1), a norm and an activation.

    The sub-modules are named as in mmcv's ``ConvModule``: ``conv``, ``bn`` (or what mmcv calls
    the norm of ``norm_cfg``) and ``activate``. Unlike there, the activation is told the number of
    its channels, and the initial values are torch's, or what the network around it sets.

    Args:
        in_channels: The number of input channels.
        out_channels: The number of output channels.
        kernel_size: The size of the kernel, odd; the padding is half of it, times the dilation.
        stride: The stride of the convolution.
        dilation: The dilation of the convolution.
        groups: The number of groups of the convolution.
        norm_cfg: The config of the norm, which an activation with norms of its own gets as well.
            None for no norm; the convolution then has a bias.
        act_cfg: The config of the activation, None for none.

    Shape:
        - Input: ``(N, in_channels, H, W)``.
        - Output: ``(N, out_channels, ceil(H / stride), ceil(W / stride))``.

    Raises:
        ValueError: If ``act_cfg`` is not a config of an activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006
        act_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups,
            bias=norm_cfg is None,
        )
        if norm_cfg is not None:
            self.add_module(*build_norm_layer(norm_cfg, out_channels))
        if act_cfg is not None:
            self.activate = build_activation(act_cfg, out_channels, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            for layer in self.children():
                x = layer(x)
            return x
        else:  # what follows a return would be scripted as well
            conv, *others = self.children()
            x = conv(x)
            if len(others) == 2:
                norm, act = others
                return norm_act(norm, act, x)
            return others[0](x) if others else x
