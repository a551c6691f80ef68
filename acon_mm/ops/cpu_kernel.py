"""The compiled kernel for CPUs: one pass forward, one backward, its sources are in ``csrc``.

It is built with the package where torch and a C++ compiler are there, once for each instruction
set. Which of them runs is decided as torch decides it for its own kernels, so torch's
environment variable ``ATEN_CPU_CAPABILITY`` chooses here as well.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from .formula import acon_gradients

INTERFACE = 3
"""What the modules offer and take, by a number that is theirs too, in ``csrc/module.h``. Whoever
changes a function in there raises both, so that modules of an older checkout are not called."""


def _load() -> tuple[ModuleType | None, str]:
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
        if module.torch_version == re.match(r'[\d.]*\d', torch.__version__)[0]:
            return module, name
        reason = f'it was built for torch {module.torch_version}'
    return None, f'the CPU kernel cannot be used: {reason}'


_module, _name_or_reason = _load()
if _module is not None:
    _module.set_differentiable_gradients(acon_gradients)
    # ACON of x, p1, p2 and beta as an autograd function that saves them, as autograd.py has it for
    # the other kernels; None for tensors that are not as forward() needs them.
    apply = _module.apply


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
    return _module.forward(x, *map(_dense, (p1, p2, beta)))


def backward(
    g: Tensor,
    x: Tensor,
    p1: Tensor | float,
    p2: Tensor | float,
    beta: Tensor | float,
    needed: Sequence[bool] = (True,) * 4,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
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
    return _module.backward(g, x, *map(_dense, (p1, p2, beta)))


def _dense(param: Tensor | float) -> Tensor | float:
    return param.resolve_neg().contiguous() if isinstance(param, Tensor) else param


def meta_forward(
    x: Tensor, p1: Tensor, p2: Tensor, layers: Sequence, use_batch_stats: bool
) -> list[Tensor]:
    """Compute channel-wise Meta-ACON, see :func:`acon_mm.ops.meta_acon.meta_acon`.

    Returns:
        The value and what :func:`meta_backward` needs besides.
    """
    tensors = [
        tensor
        for layer in layers
        for tensor in (layer.weight.flatten(1), *(part.contiguous() for part in layer[1:6]))
    ]
    momenta, eps = zip(*(layer[6:] for layer in layers), strict=True)
    return _module.meta_forward(
        x, p1.contiguous(), p2.contiguous(), tensors, use_batch_stats, momenta, eps
    )


def meta_backward(
    g: Tensor,
    x: Tensor,
    p1: Tensor,
    p2: Tensor,
    *args: Tensor | Sequence[Tensor] | bool,
) -> list[Tensor]:
    """Compute the gradients of ``x``, ``p1``, ``p2`` and both layers' weights and biases.

    Args:
        g: The gradient of the value, of the shape and dtype of ``x``, in any memory format.
        x: As in :func:`meta_forward`, and so are the slopes.
        p1: See there.
        p2: See there.
        *args: Weight, bias and the norm's weight and bias of both layers; what
            :func:`meta_forward` returned besides the value; and ``use_batch_stats``, as there.

    Returns:
        The gradients, in the shapes and dtypes of what they belong to.
    """
    *params, saved, use_batch_stats = args
    weights = [params[0].flatten(1), params[2], params[4].flatten(1), params[6]]
    found = _module.meta_backward(
        g, x, p1.contiguous(), p2.contiguous(), weights, saved, use_batch_stats
    )
    of_params = (grad.view_as(p) for grad, p in zip(found[3:], params, strict=True))
    return [*found[:3], *of_params]
