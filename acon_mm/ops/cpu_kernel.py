"""The compiled kernel for CPUs: one pass forward, one backward, its sources are in ``csrc``.

It is built with the package where torch and a C++ compiler are there, once for each instruction
set. Which of them runs is decided as torch decides it for its own kernels, so torch's
environment variable ``ATEN_CPU_CAPABILITY`` chooses here as well.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

INTERFACE = 8
"""What the modules offer and take, by a number that is theirs too, in ``csrc/module.h``. Whoever
changes a function in there raises both, so that modules of an older checkout are not called."""

KINDS = ('relu', 'acon', 'channel_wise', 'layer_wise')
"""The activations that a norm is computed with, in the order of ``csrc/norm_act.h``."""


def _load() -> tuple[Any, str]:
    """Return the module of this CPU and the name of its instruction set, or None and a reason."""
    capability = torch.backends.cpu.get_cpu_capability()
    reason = (
        'it was not built: `pip install --no-build-isolation` of acon_mm builds it where torch '
        'and a C++ compiler are'
    )
    for name in dict.fromkeys((capability.lower(), 'default')):
        try:
            module = import_module(f'{__package__}._cpu_{name}')
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            reason = f'it does not load: {error}'
            continue
        if getattr(module, 'interface', 1) != INTERFACE:
            reason = 'it was built from other sources than these: install acon_mm again'
            continue
        # Of a nightly build, the headers contain the release number alone.
        release = re.match(r'[\d.]*\d', torch.__version__)
        if release and module.torch_version == release[0]:
            return module, name
        reason = f'it was built for torch {module.torch_version}'
    return None, f'the CPU kernel cannot be used: {reason}'


_module, _name_or_reason = _load()


def why_unavailable(device: int | None = None) -> str | None:
    """Return why this kernel cannot be used, None if it can."""
    return _name_or_reason if _module is None else None


def describe() -> str:
    """Say what this kernel is."""
    return f'compiled kernel for {_name_or_reason.upper()}'


def forward(x: Tensor, p1: Tensor | float, p2: Tensor | float, beta: Tensor | float) -> Tensor:
    """Compute ACON.

    Args:
        x: A float tensor of shape ``(N, C, ...)`` on the CPU, in any memory format.
        p1: A number, or a tensor of shape ``(C,)``, float64 if ``x`` is and else float32.
        p2: Likewise.
        beta: A number, or a tensor of shape ``(C,)`` or ``(N, C)``, likewise.

    Returns:
        A tensor of the shape, dtype and, where it is contiguous or channels_last, of the memory
        format of ``x``.
    """
    return _module.forward(x, p1, p2, beta)


def backward(
    g: Tensor,
    x: Tensor,
    p1: Tensor | float,
    p2: Tensor | float,
    beta: Tensor | float,
    needed: Sequence[bool] = (True,) * 4,
) -> tuple[Tensor | None, ...]:
    """Compute the gradients of ``x``, ``p1``, ``p2`` and ``beta``, in their shapes and dtypes.

    That of a number is None.

    Args:
        g: The gradient of the value, of the shape and dtype of ``x``, in any memory format.
        x: As in :func:`forward`, and so are the others.
        p1: See there.
        p2: See there.
        beta: See there.
        needed: What other kernels leave out; one pass gives all of them here.
    """
    return _module.backward(g, x, p1, p2, beta)


def can_compute(x: Tensor, kind: str) -> bool:
    """Return whether :func:`norm_act_forward` takes a map and an activation: all of them."""
    return True


def norm_act_forward(x: Tensor, norm: Any, act: Any) -> list[Tensor]:
    """Compute a batch norm and an activation, see :func:`acon_mm.ops.norm_act.norm_act`.

    Returns:
        The value and what :func:`norm_act_backward` needs besides: first the mean and 1 / std
        that the norm used, of shape ``(2, C)``, in float64.
    """
    layers = [t for layer in act.layers for t in layer[:6]]
    momenta = [layer.momentum for layer in act.layers] or (0, 0)
    eps = [layer.eps for layer in act.layers] or (0, 0)
    of_batch = (norm.use_batch_stats, norm.momentum, norm.eps) if norm else (False, 0, 0)
    return _module.norm_act_forward(
        x,
        norm[:4] if norm else (),
        *of_batch,
        KINDS.index(act.kind),
        act.params,
        layers,
        act.use_batch_stats,
        momenta,
        eps,
        [_join_of(part) for part in (norm, *act.layers)],
    )


def _join_of(part: Any) -> Any:
    if part is None or part.exchange is None:
        return None
    statistics = part.running_mean, part.running_var, part.momentum
    return lambda moments: part.exchange.join(moments, *statistics)


def norm_act_backward(
    g: Tensor,
    args: Sequence[Any],
    kept: Sequence[Tensor],
    norm: Any,
    act: Any,
    with_dx: bool,
) -> list[Tensor | None]:
    """Compute the gradients of ``args``.

    Args:
        g: The gradient of the value, of the shape and dtype of ``x``, in any memory format.
        args: ``x``, the norm's weight and bias, the parameters of the activation, and weight,
            bias and the norm's weight and bias of both its layers.
        kept: What :func:`norm_act_forward` returned besides the value.
        norm: As there.
        act: As there.
        with_dx: Whether the gradient of ``x`` is wanted; None otherwise.

    Returns:
        The gradients, in the shapes and dtypes of what they belong to; None for a number.
    """
    end = 3 + len(act.params)
    return _module.norm_act_backward(
        g,
        args[0],
        args[1:3] if norm else (),
        bool(norm and norm.use_batch_stats),
        KINDS.index(act.kind),
        args[3:end],
        args[end:],
        kept,
        act.use_batch_stats,
        with_dx,
        [part and part.exchange and part.exchange.average for part in (norm, *act.layers)],
    )
