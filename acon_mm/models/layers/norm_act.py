"""A norm and the activation after it, in one operator where that changes nothing but the cost."""

from typing import Any

from mmengine.model.utils import _BatchNormXd
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm
from torch import Tensor, nn

from acon_mm.models.activations import AconA, AconB, AconC, MetaAcon
from acon_mm.models.activations.meta_acon import default_layers
from acon_mm.ops import torch_private
from acon_mm.ops.exchange import exchange_of
from acon_mm.ops.norm_act import Activation, Norm, can_compute_norm_act, may_compute_norm_act
from acon_mm.ops.norm_act import norm_act as fused_norm_act

NORMS = (nn.BatchNorm2d, _BatchNormXd, nn.SyncBatchNorm, SyncBatchNorm)
ACTIVATIONS = (AconA, AconB, AconC, MetaAcon, nn.ReLU, nn.SiLU)
PLAIN: dict[type, Activation] = {
    nn.ReLU: Activation('relu'),
    nn.SiLU: Activation('acon', (1.0, 0.0, 1.0)),
}


def norm_act(norm: nn.Module, act: nn.Module, x: Tensor) -> Tensor:
    """Compute ``act(norm(x))``.

    A batch norm and one of AconA, AconB, AconC, MetaAcon (channel-wise or layer-wise), ReLU and
    SiLU are computed together on the CPU: ACON then costs no time and no memory beyond the norm's,
    and nothing is rounded between the two. Both are called, one after the other, if one of them
    is of another class or has a hook, and when the call is traced, exported, compiled or
    transformed. The environment variable ``ACON_MM_BACKEND=plain`` has them always called.

    A synchronised norm in training mode, torch's or ``SyncBN`` of mmengine, joins the statistics
    of all processes between the two passes over ``x``, by the collective operations of torch's:
    one forward, one backward. So do those inside MetaAcon. This works on the CPU as well, with
    gloo; torch's module, when it is called, refuses CPU tensors. ``MMSyncBN`` of mmcv is called.

    Args:
        norm: A norm; its running statistics are updated as it does it itself.
        act: An activation.
        x: A float tensor of shape ``(N, C, H, W)``.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    if may_compute_norm_act(x) and x.dim() == 4:
        of_norm, of_act = _describe_norm(norm), _describe_activation(act)
        if of_norm and of_act and can_compute_norm_act(x, of_norm, of_act):
            inner = (act.bn1, act.bn2) if of_act.use_batch_stats else ()
            torch_private.count_up([n.num_batches_tracked for n in (norm, *inner) if _counts(n)])
            return fused_norm_act(x, of_norm, of_act)
    return act(norm(x))


def _is_plain(module: nn.Module) -> bool:
    """Return whether to compute what the class does instead of calling it changes nothing."""
    return 'forward' not in vars(module) and not torch_private.has_hooks(module)


def _describe_norm(norm: Any) -> Norm | None:
    if type(norm) not in NORMS or not _is_plain(norm):
        return None
    # As the forward method of torch's batch norm.
    tracks = norm.training and norm.track_running_stats
    use_batch_stats = norm.training or norm.running_mean is None
    mean, var = (
        (norm.running_mean, norm.running_var) if tracks or not use_batch_stats else (None, None)
    )
    momentum = norm.momentum
    if momentum is None:  # the average of all batches
        count = norm.num_batches_tracked
        momentum = 1 / (count.item() + 1) if tracks and count is not None else 0.0
    options = momentum, norm.eps, use_batch_stats, exchange_of(norm)
    return Norm(norm.weight, norm.bias, mean, var, *options)


def _counts(norm: Any) -> bool:
    tracks = norm.training and norm.track_running_stats
    return tracks and norm.num_batches_tracked is not None


def _describe_activation(act: Any) -> Activation | None:
    if type(act) not in ACTIVATIONS or not _is_plain(act):
        return None
    if type(act) in PLAIN:
        return PLAIN[type(act)]
    if act.channel_dim != 1:
        return None
    if not isinstance(act, MetaAcon):
        return Activation('acon', act.constants())
    if act.manner == 'layer_wise':
        return Activation('layer_wise', (act.p1, act.p2))
    layers = default_layers(act) if act.channel_wise else None
    return layers and Activation('channel_wise', (act.p1, act.p2), layers, act.bn1.training)
