"""Meta-ACON of *Activate or Not* (https://arxiv.org/abs/2009.04759), section 3.1 and Table 5."""

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from acon_mm._stack import has_openmmlab
from acon_mm.ops import acon, pixel_wise_acon, spatial_mean, torch_private
from acon_mm.ops.exchange import exchange_of
from acon_mm.ops.norm_act import Activation, NormedLayer, can_compute_norm_act, norm_act
from acon_mm.registry import MODELS

from .acon import LIKE, TwoSlopeActivation
from .folding import fold_norm
from .norm import build_norm

MANNERS = ('channel_wise', 'layer_wise', 'pixel_wise')

_warned_of_single_samples = False


@MODELS.register_module()
class MetaAcon(TwoSlopeActivation):
    """Apply ACON-C with a switching factor that is computed from the input.

    ======================  ==========================================================
    ``manner``              switching factor (Table 5)
    ======================  ==========================================================
    ``'channel_wise'``      ``sigmoid(fc2(fc1(GAP(x))))``, one per sample and channel
    ``'layer_wise'``        ``sigmoid(sum over channels of GAP(x))``, one per sample
    ``'pixel_wise'``        ``sigmoid(x)``, one per element
    ======================  ==========================================================

    The channel-wise manner has two 1×1 convolutions with bias, ``fc1`` and ``fc2``, each followed
    by a norm, ``bn1`` and ``bn2``, and no non-linearity between them, as in the authors' code. In
    all manners the slopes ``p1`` and ``p2`` are parameters of shape ``(C,)``.

    A batch norm cannot train on one value per channel, which is all that the pooled map of a
    single sample has. It then normalises with its running statistics and does not update them;
    the first time a warning is logged. A ``SyncBN`` with more samples in other processes is not
    affected. Under ``torch.jit.script`` the norm itself is called, and torch's raises an error.

    Args:
        num_channels: The number of channels ``C``.
        manner: How the switching factor is computed, see the table.
        reduction: ``r``; the hidden width is ``max(r, C // r)``. Channel-wise only.
        depthwise: Whether ``fc1`` and ``fc2`` are depth-wise (one weight per channel, hidden width
            ``C``), which the paper uses to save parameters in ResNet-152. Channel-wise only.
        norm_cfg: The config of the norms after ``fc1`` and ``fc2``, ``dict(type='BN')`` or
            ``dict(type='SyncBN')``; None for no norm. Inside a backbone the default is the
            backbone's ``norm_cfg``. A batch norm must keep running statistics, which single
            samples need. Channel-wise only.
        init: ``'paper'`` (``p1 = 1``, ``p2 = 0``), ``'normal'`` (both from N(0, 1)), or a key of
            :data:`~acon_mm.models.activations.acon.LIKE`. The factor is then
            ``2 * value * sigmoid(gain * bn2(fc2(...)))`` with a parameter ``gain`` of shape
            ``(C,)`` that starts from 0, and ``bn2`` has no weights. The compiled kernels do not
            compute such a factor: it takes torch's operations. Channel-wise only.
        inplace: Ignored.
        channel_dim: 1, or -1 if the channels are the last dimension.

    Shape:
        - Input: ``(N, C, ...)``, any float dtype; ``(N, C)`` counts as a map of one pixel.
        - Output: shape and dtype of the input.

    Raises:
        ValueError: If an input has another number of channels; on construction, if ``manner`` or
            ``init`` is not one of the accepted values, ``reduction`` is not a positive integer,
            ``depthwise`` goes with another manner than the channel-wise, or ``norm_cfg`` is not a
            config of a norm that works here.
    """

    # Constants for torch.jit.script.
    channel_wise: Final[bool]
    like: Final[bool]

    def __init__(
        self,
        num_channels: int | None = None,
        manner: str = 'channel_wise',
        reduction: int = 16,
        depthwise: bool = False,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006
        init: str = 'paper',
        inplace: bool = False,
        channel_dim: int = 1,
    ) -> None:
        super().__init__(num_channels, init, channel_dim)
        channels = self.num_channels
        if manner not in MANNERS:
            raise ValueError(f'manner must be one of {MANNERS}, but it is {manner!r}')
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f'reduction must be a positive integer, but it is {reduction!r}')
        if depthwise and manner != 'channel_wise':
            raise ValueError(
                f"depthwise must be False unless manner is 'channel_wise', but it is "
                f'{depthwise!r} and manner is {manner!r}'
            )
        if init in LIKE and manner != 'channel_wise':
            raise ValueError(
                f"init must be 'paper' or 'normal' unless manner is 'channel_wise', but it is "
                f'{init!r} and manner is {manner!r}'
            )
        self.manner = manner
        self.channel_wise = manner == 'channel_wise'
        self.like = init in LIKE
        self.scale = 2 * LIKE.get(init, 0.5)
        if self.channel_wise:
            hidden = channels if depthwise else max(reduction, channels // reduction)
            groups = channels if depthwise else 1
            self.fc1 = nn.Conv2d(channels, hidden, 1, groups=groups)
            self.bn1 = _build_norm(norm_cfg, hidden)
            self.fc2 = nn.Conv2d(hidden, channels, 1, groups=groups)
            if self.like:
                # Not the weight of bn2: what an init_cfg sets in all norms would undo it.
                self.gain = nn.Parameter(torch.empty(channels))
                norm_cfg = norm_cfg and dict(norm_cfg, affine=False)
            self.bn2 = _build_norm(norm_cfg, channels)
        self.reset_parameters()

    @staticmethod
    def check_norm_of_network(act_cfg: dict, norm_cfg: dict) -> None:
        """Check that the norm of a network can be handed on to the activations in it.

        Args:
            act_cfg: The config of the activation, without a norm.
            norm_cfg: The config of the network's norms.

        Raises:
            ValueError: If ``norm_cfg`` is not a batch norm. Other norms normalise each sample by
                itself: over the pixels, of which a pooled map has one, or over groups of channels,
                which suit the network's widths and not the hidden width in here.
        """
        kind = norm_cfg.get('type')
        norm = kind if isinstance(kind, type) else MODELS.get(kind)
        channel_wise = act_cfg.get('manner', 'channel_wise') == 'channel_wise'
        if norm is not None and channel_wise and not _is_batch_norm(norm):
            raise ValueError(
                f'the norms inside MetaAcon cannot be those of the network, '
                f'norm_cfg={norm_cfg!r}: they follow a global pooling and must be batch norms. '
                "Name one in act_cfg, as in act_cfg=dict(type='acon_mm.MetaAcon', "
                "norm_cfg=dict(type='BN')), or norm_cfg=None for no norm"
            )

    def reset_parameters(self) -> None:
        """Set the slopes, the two convolutions and their norms to their first values."""
        super().reset_parameters()
        if self.channel_wise:
            layer: Any  # not every norm has the method
            for layer in (self.fc1, self.bn1, self.fc2, self.bn2):
                if hasattr(layer, 'reset_parameters'):
                    layer.reset_parameters()
        if self.like:
            nn.init.zeros_(self.gain)

    def switching_factor(self, x: Tensor) -> Tensor:
        """Compute the switching factor of each sample.

        Args:
            x: A float tensor of shape ``(N, C, ...)``.

        Returns:
            A tensor of values in (0, 1), with an init of :data:`LIKE` up to twice the value there,
            and of shape ``(N, C)`` (channel-wise), ``(N, 1)``
            (layer-wise) or ``x.shape`` (pixel-wise). Autocast does not narrow its dtype: the first
            two are computed in that of the parameters and of the sum, float32 as a rule.
        """
        if self.manner == 'pixel_wise':
            return torch.sigmoid(x)
        pooled = spatial_mean(x)
        if not self.channel_wise:
            return torch.sigmoid(pooled.sum(1, keepdim=True))
        hidden = pooled.to(self.fc1.weight.dtype)
        if torch.jit.is_scripting():
            hidden = self.bn1(self.fc1(hidden[:, :, None, None]))
            return self._factor(self.bn2(self.fc2(hidden)).flatten(1))
        else:  # what follows a return would be scripted as well
            with _no_autocast(x.device.type):
                hidden = normalise(self.bn1, _pointwise(self.fc1, hidden))
                hidden = normalise(self.bn2, _pointwise(self.fc2, hidden))
                return self._factor(hidden)

    def _factor(self, x: Tensor) -> Tensor:
        if self.like:
            return torch.sigmoid(x * self.gain) * self.scale
        else:  # what follows a return would be scripted as well
            return torch.sigmoid(x)

    def activate(self, x: Tensor) -> Tensor:
        if self.manner == 'pixel_wise':
            return pixel_wise_acon(x, self.p1, self.p2)
        if not torch.jit.is_scripting() and self.channel_wise:
            _check_channels(x, self.num_channels)
            layers = default_layers(self)
            if layers is not None:
                slopes = (self.p1, self.p2)
                act = Activation('channel_wise', slopes, layers, self.bn1.training)
                if can_compute_norm_act(x, None, act):
                    if act.use_batch_stats:
                        # Batch norms by now, which their declared type does not say.
                        norms: Any = (self.bn1, self.bn2)
                        torch_private.count_up([norm.num_batches_tracked for norm in norms])
                    return norm_act(x, None, act)
        if not torch.jit.is_scripting() and self.manner == 'layer_wise':
            act = Activation('layer_wise', (self.p1, self.p2))
            if can_compute_norm_act(x, None, act):
                return norm_act(x, None, act)
        return acon(x, self.p1, self.p2, self.switching_factor(x))

    def fold(self) -> None:
        """Fold the batch norms into ``fc1`` and ``fc2``, identities take their places.

        Other norms depend on the input and stay. Nothing non-linear stands between the two
        layers, but their product has ``C * C`` weights instead of ``2 * C * max(r, C / r)``,
        eight times as many for ``C = 256``, so they remain two. (With depth-wise layers, one
        multiplication and addition of ``C`` numbers per sample is all that could be saved.)
        """
        if self.channel_wise:
            self.bn1 = fold_norm(self.fc1, self.bn1)
            self.bn2 = fold_norm(self.fc2, self.bn2)

    def extra_repr(self) -> str:
        last = '' if self.channel_dim == 1 else f', channel_dim={self.channel_dim}'
        return f'{self.num_channels}, manner={self.manner!r}, init={self.init!r}{last}'


def _is_batch_norm(norm: type[nn.Module]) -> bool:
    # mmcv's synchronised batch norm is no subclass of torch's. By name, so that its compiled
    # operators need not be imported.
    names = (base.__name__ for base in norm.__mro__)
    return issubclass(norm, _BatchNorm) or 'SyncBatchNorm' in names


def _build_norm(norm_cfg: dict | None, num_channels: int) -> nn.Module:
    if norm_cfg is None:
        return nn.Identity()
    expected = "norm_cfg must be the config of a norm, such as dict(type='BN'), or None"
    try:
        norm = build_norm(norm_cfg, num_channels)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f'{expected}, but it is {norm_cfg!r}') from error
    if isinstance(norm, _BatchNorm) and not norm.track_running_stats:
        raise ValueError(
            f'{expected}, with the running statistics that a batch of one sample is normalised '
            f'with, but it is {norm_cfg!r}'
        )
    return norm


def _no_autocast(device_type: str) -> AbstractContextManager:
    is_on = False
    if not hasattr(torch.amp, 'is_autocast_available'):  # before torch 2.4
        if device_type == 'cpu':
            is_on = torch.is_autocast_cpu_enabled()
        elif device_type == 'cuda':
            is_on = torch.is_autocast_enabled()
    # Devices without autocast, such as meta, refuse even to switch it off. The question whether a
    # device has it cannot be compiled by torch 2.4.
    elif device_type in ('cpu', 'cuda') or torch.amp.is_autocast_available(device_type):
        is_on = torch.is_autocast_enabled(device_type)
    return torch.autocast(device_type, enabled=False) if is_on else nullcontext()


def _check_channels(x: Tensor, num_channels: int) -> None:
    # A tracer would warn that it records the outcome.
    if not torch.jit.is_tracing() and (x.dim() < 2 or x.size(1) != num_channels):
        raise ValueError(
            f'x must have the shape (N, {num_channels}, ...), as MetaAcon has '
            f'num_channels={num_channels}, but it has {tuple(x.shape)}'
        )


def _can_bypass(conv: nn.Module) -> bool:
    """Return whether to compute what a convolution does instead of calling it changes nothing."""
    return type(conv) is nn.Conv2d and not torch_private.has_hooks(conv)


def _can_bypass_norm(norm: nn.Module) -> bool:
    """Return whether to compute what a norm does instead of calling it changes nothing.

    A batch norm is what computes as torch's or torch's synchronised one does, with weight, bias
    and running statistics, such as the norms that mmengine puts in the place of synchronised ones.
    """
    return (
        isinstance(norm, _BatchNorm)
        and type(norm).forward in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)
        and norm.affine
        and norm.running_mean is not None
        and norm.momentum is not None
        and not torch_private.has_hooks(norm)
    )


def default_layers(meta: MetaAcon) -> tuple[NormedLayer, NormedLayer] | None:
    """Return the layers of the switching factor, None if they are not as by default.

    The caller bypasses their modules: none must have been replaced or have hooks.
    """
    if not (_can_bypass(meta.fc1) and _can_bypass(meta.fc2)) or meta.fc1.groups != 1:
        return None
    if not (_can_bypass_norm(meta.bn1) and _can_bypass_norm(meta.bn2)):
        return None
    if meta.bn1.training != meta.bn2.training:
        return None
    return _normed_layer(meta.fc1, meta.bn1), _normed_layer(meta.fc2, meta.bn2)


def _normed_layer(conv: Any, norm: Any) -> NormedLayer:
    # Any: torch declares biases and statistics as optional; default_layers has checked them.
    return NormedLayer(
        conv.weight,
        conv.bias,
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
        norm.momentum,
        norm.eps,
        exchange_of(norm),
    )


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    # A convolution of a 1×1 map takes five times as long as the product that it is. But who prunes
    # or wraps the layer, counts its operations or exports it, has to meet it.
    plain = _can_bypass(conv)
    if plain and conv.groups == 1:
        return F.linear(x, conv.weight.flatten(1), conv.bias)
    if not plain or torch.jit.is_tracing():
        return conv(x[:, :, None, None]).flatten(1)
    return x * conv.weight.flatten() + conv.bias  # type: ignore[operator]  # both have a bias


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a norm to pooled maps; of one sample a batch norm takes its running statistics.

    Args:
        norm: A batch norm, or any other module, which is then just called.
        x: A float tensor of shape ``(N, C)``.

    Returns:
        A tensor of the same shape.
    """
    global _warned_of_single_samples
    if isinstance(norm, nn.Identity):
        return x
    alone = isinstance(norm, _BatchNorm) and norm.training and x.size(0) <= 1
    if isinstance(norm, nn.SyncBatchNorm) and _world_size(norm.process_group) > 1:
        alone = False
    if not alone:
        return norm(x[:, :, None, None]).flatten(1)
    # A compiler cannot look into a logger.
    if not _warned_of_single_samples and not torch_private.is_compiling():
        _warned_of_single_samples = True
        _warn(
            'A batch of one sample reached a batch norm inside MetaAcon in training mode: it uses '
            'its running statistics for such batches. Train with more samples per process or with '
            "norm_cfg=dict(type='SyncBN') if this is not just the last batch of an epoch."
        )
    assert isinstance(norm, _BatchNorm)  # as `alone` says
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
    )


def _world_size(group: Any) -> int:
    is_distributed = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size(group) if is_distributed else 1


def _warn(message: str) -> None:
    if has_openmmlab():
        from mmengine.logging import print_log

        print_log(message, logger='current', level=logging.WARNING)
    else:
        logging.getLogger('acon_mm').warning(message)
