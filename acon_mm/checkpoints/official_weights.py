"""The authors' released weights in our layout, and ours in theirs.

Both are state dicts of the same networks. Theirs differ in three ways: the names; the slopes and
switching factors have the shape ``(1, C, 1, 1)``, not ``(C,)``; and every convolution before a
batch norm has a bias ``b``. A norm in evaluation mode computes the same without it once its
running mean is lowered by ``b``; one in training mode cancels it.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from acon_mm.errors import UserError

SLOPES = ('p1', 'p2', 'beta')


class OfficialLayout:
    """How the authors' file of a network is laid out.

    Args:
        state_dict: The state dict of our network, whose keys start with ``backbone.`` or
            ``head.fc.``; of the values only the shape is read.
        official_name: What returns the authors' name of a key of ``state_dict``; see
            :mod:`.official_names`.

    Attributes:
        shapes: The shape of each tensor of their file, by its name there and in our order.
    """

    def __init__(
        self, state_dict: Mapping[str, Tensor], official_name: Callable[[str], str]
    ) -> None:
        self._ours = {key: value.shape for key, value in state_dict.items()}
        self._theirs = {key: official_name(key) for key in state_dict}
        self._biases: dict[str, str] = {}  # of the convolution before a norm, by its running mean
        self.shapes: dict[str, torch.Size] = {}
        for key, name in self._theirs.items():
            shape = self._ours[key]
            layer, _, leaf = name.rpartition('.')
            self.shapes[name] = torch.Size((1, *shape, 1, 1)) if leaf in SLOPES else shape
            has_bias = key.removesuffix('weight') + 'bias' in state_dict
            if leaf == 'weight' and len(shape) == 4 and not has_bias:
                self.shapes[f'{layer}.bias'] = torch.Size(shape[:1])
                self._biases[f'{_norm_after(layer)}.running_mean'] = f'{layer}.bias'

    def to_ours(self, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert a state dict of the authors' layout, with the convolutions' biases folded.

        Args:
            official: Their state dict. What old versions of torch did not write, the norms'
                ``num_batches_tracked``, may be missing and is then 0.

        Returns:
            Our state dict, with the keys and shapes of the one that the layout was made from.

        Raises:
            UserError: If a tensor is missing, of another shape or not known; the first one is
                named.
        """
        optional = {name for name in self.shapes if name.endswith('.num_batches_tracked')}
        absent = optional.difference(official)
        check_fit(official, {k: v for k, v in self.shapes.items() if k not in absent})
        ours = {}
        for key, name in self._theirs.items():
            value = torch.zeros(()).long() if name in absent else official[name].detach()
            if name in self._biases:
                value = value - official[self._biases[name]].detach()
            ours[key] = value.reshape(self._ours[key])
        return ours

    def to_official(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert our state dict to the authors' layout, where convolutions get biases of 0.

        Args:
            ours: The state dict of our network.

        Returns:
            Their state dict. :meth:`to_ours` gives ``ours`` back, bit for bit.

        Raises:
            UserError: If a tensor is missing, of another shape or not known; the first one is
                named.
        """
        check_fit(ours, self._ours)
        official = {name: ours[key].detach() for key, name in self._theirs.items()}
        for mean, bias in self._biases.items():
            official[bias] = torch.zeros_like(official[mean])
        return {name: official[name].reshape(shape) for name, shape in self.shapes.items()}


def check_fit(state_dict: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> None:
    """Check that a state dict has the expected tensors and no others.

    Args:
        state_dict: The state dict of a file.
        shapes: The expected shapes, by key.

    Raises:
        UserError: For the first key of ``shapes`` that is missing or has another shape, then for
            the first key that ``shapes`` lacks.
    """
    for key, shape in shapes.items():
        if key not in state_dict:
            first = next(iter(state_dict), None)
            raise UserError(
                f'it lacks {key!r} of shape {tuple(shape)}; its first key is {first!r}'
            )
        if state_dict[key].shape != shape:
            raise UserError(
                f'its {key!r} has the shape {tuple(state_dict[key].shape)}, not {tuple(shape)}'
            )
    for key, value in state_dict.items():
        if key not in shapes:
            raise UserError(f'its {key!r} of shape {tuple(value.shape)} does not belong there')


def _norm_after(conv: str) -> str:
    """Return the authors' name of the norm after a convolution: ``'0'`` is followed by ``'1'``."""
    parent, _, name = conv.rpartition('.')
    if name.isdigit():
        name = str(int(name) + 1)
    else:
        name = 'bn1' if name == 'conv_frelu' else name.replace('conv', 'bn')
    return f'{parent}.{name}' if parent else name
