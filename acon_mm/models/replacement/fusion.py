"""mmcv's ConvModule with its norm and its activation in one operator."""

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from acon_mm.models.activations.acon import ChannelActivation
from acon_mm.models.layers import norm_act


class FusedConvModule(ConvModule):
    """A ``ConvModule`` that calls :func:`.norm_act`; a built one takes this as its class."""

    def forward(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        """Convolve, normalise and activate, as ``ConvModule`` does."""
        in_convolution = getattr(self, 'efficient_conv_bn_eval_forward', None) is not None
        if not (activate and norm) or in_convolution:
            return super().forward(x, activate, norm)
        return norm_act(self.norm, self.activate, super().forward(x, activate=False, norm=False))


def fuse_norms(model: nn.Module) -> None:
    """Have each ``ConvModule`` whose activation is one of ACON compute it with its norm."""
    for module in model.modules():
        if (
            type(module) is ConvModule
            and module.order == ('conv', 'norm', 'act')
            and module.with_norm
            and isinstance(getattr(module, 'activate', None), ChannelActivation)
        ):
            module.__class__ = FusedConvModule
