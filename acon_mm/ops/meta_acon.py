"""Channel-wise Meta-ACON as one autograd function, where its parts are the default ones.

Mean, two linear layers with batch norms, sigmoid and ACON are some forty calls, forward and
backward, which cost more than ACON itself on small maps.
"""

from collections.abc import Sequence

from torch import Tensor

from .norm_act import Activation, NormedLayer, can_compute_norm_act, norm_act


def can_compute_meta_acon(
    x: Tensor, p1: Tensor, p2: Tensor, layers: Sequence[NormedLayer]
) -> bool:
    """Return whether :func:`meta_acon` takes its arguments: on the CPU, by its kernel.

    Args:
        x: Any tensor.
        p1: The slope for large ``x``, of shape ``(C,)``, in any dtype.
        p2: The slope for small ``x``, likewise.
        layers: Two layers, in any dtype.
    """
    return can_compute_norm_act(x, None, Activation('channel_wise', (p1, p2), layers))


def meta_acon(
    x: Tensor, p1: Tensor, p2: Tensor, layers: Sequence[NormedLayer], use_batch_stats: bool
) -> Tensor:
    """Compute ACON-C with ``beta = sigmoid(norm2(fc2(norm1(fc1(mean of x)))))`` (section 3.1).

    Args:
        x: A float tensor of shape ``(N, C, ...)``, see :func:`can_compute_meta_acon`. ``N`` is at
            least 2 if ``use_batch_stats``.
        p1: The slope for large ``x``, of shape ``(C,)``, in the dtype of the computation.
        p2: The slope for small ``x``, likewise.
        layers: The two layers, in the dtype of the computation.
        use_batch_stats: Whether the norms take the statistics of the batch and update the running
            ones.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    return norm_act(x, None, Activation('channel_wise', (p1, p2), layers, use_batch_stats))
