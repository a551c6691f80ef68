"""What a replacement has done, in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .channels import Channels

_SHOWN = 3


@dataclass(frozen=True)
class Replacement:
    """What a replacement has done.

    Attributes:
        network: The name of the network's class.
        activation: The name of the new activation's class.
        replaced: The channels by the names of the new activations.
        left: By the names of the others, why they were left.
        functions: The places at which a function such as ``F.relu`` is called, which stay.
    """

    network: str
    activation: str
    replaced: Mapping[str, Channels]
    left: Mapping[str, str]
    functions: Sequence[str]

    def __str__(self) -> str:
        widths = sorted(
            {width for channels in self.replaced.values() for width in channels.widths}
        )
        last = sum(channels.dim == -1 for channels in self.replaced.values())
        lines = [
            f'{self.network}: {len(self.replaced)} activations replaced by {self.activation}, '
            f'of {", ".join(map(str, widths))} channels'
            + (f', {last} of them with the channels last' if last else '')
        ]
        for reason, number in Counter(self.left.values()).items():
            names = [name for name, why in self.left.items() if why == reason]
            lines.append(f'left, as it {reason}: {number} ({shorten(names)})')
        if self.functions:
            lines.append(f'left, as it is no module: {shorten(self.functions)}')
        return '\n'.join(lines)


def shorten(names: Sequence[str]) -> str:
    """List the first names and how many there are besides."""
    more = len(names) - _SHOWN
    return ', '.join(names[:_SHOWN]) + (f' and {more} more' if more > 0 else '')
