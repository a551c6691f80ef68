"""An activation for each width, where the calls of a shared one differ in nothing else."""

from collections.abc import Sequence

from torch import Tensor, nn

from .channels import Channels


class ActivationPerWidth(nn.ModuleDict):
    """Apply the activation that is made for as many channels as the input has.

    The branches of HRNet are what needs it: one ``self.relu`` is called for each in a loop.

    Args:
        channels: The widths, and where the channels are.
        activations: An activation for each of the widths.
    """

    def __init__(self, channels: Channels, activations: Sequence[nn.Module]) -> None:
        super().__init__(dict(zip(map(str, channels.widths), activations, strict=True)))
        self.channel_dim = channels.dim

    def forward(self, x: Tensor) -> Tensor:
        return self[str(x.size(self.channel_dim))](x)
