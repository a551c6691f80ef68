"""Which code computes ACON: a compiled kernel, torch operations, or the bare formula.

The formula serves tracers, exporters, compilers and functorch transforms, which need operations
that they know. All other calls go through one autograd function that saves ``x`` alone for the
backward pass and calls a kernel.
"""

import os
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from . import cpu_kernel, plain_kernel, torch_private, triton_kernel

VARIABLE = 'ACON_MM_BACKEND'
"""The environment variable that forces a backend. It is read when acon_mm is imported."""

KERNELS: dict[str, ModuleType] = {
    'cpu': cpu_kernel,
    'triton': triton_kernel,
    'plain': plain_kernel,
}
"""What an environment variable may name besides 'formula'. Each has the functions ``forward``,
``backward`` and ``why_unavailable``."""

KERNEL_OF_DEVICE = {'cpu': 'cpu', 'cuda': 'triton'}
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_PLAIN = (Tensor, torch.nn.Parameter)


def read_forced_backend() -> str | None:
    """Return the backend that the environment variable names, None if it is not set or empty.

    Raises:
        ValueError: If it names none.
    """
    name = os.environ.get(VARIABLE) or None
    if name not in (None, 'formula', *KERNELS):
        raise ValueError(
            f'the environment variable {VARIABLE} must be one of '
            f'{("formula", *KERNELS)} or unset, but it is {name!r}'
        )
    return name


_forced = read_forced_backend()


def choose_kernel(x: Tensor, *params: Tensor | float) -> ModuleType | None:
    """Choose what computes ACON of ``x``.

    Args:
        x: Any tensor.
        *params: Its parameters. Subclasses of tensors, such as those spread over processes, are
            for the formula.

    Returns:
        The module of a kernel, or None for the formula.

    Raises:
        RuntimeError: If the environment variable forces a kernel that is not available.
    """
    if is_traced_or_transformed(x) or _forced == 'formula' or x.dtype not in DTYPES:
        return None
    if any(isinstance(p, Tensor) and type(p) not in _PLAIN for p in params):
        return None
    if _forced is not None:
        return _forced_kernel(_forced, x)
    name = KERNEL_OF_DEVICE.get(x.device.type)
    if name is not None and _why_unavailable(name, x.device.index) is None:
        return KERNELS[name]
    return plain_kernel


@cache
def _why_unavailable(name: str, device: int | None = None) -> str | None:
    return KERNELS[name].why_unavailable(device)


def is_traced_or_transformed(x: Tensor) -> bool:
    """Return whether the operations on ``x`` are recorded, transformed or not computed at all."""
    return (
        torch_private.is_compiling()
        or torch.jit.is_tracing()
        or type(x) not in _PLAIN
        or torch_private.is_transformed()
        or x.is_meta
    )


# Of torch 2.6, which does not tell, an exporter has to get the formula.
_is_exporting = getattr(torch.compiler, 'is_exporting', lambda: True)


def is_compiled_for_training(*args: Tensor | float) -> bool:
    """Return whether ``torch.compile`` looks in, and will differentiate what it sees."""
    return (
        torch_private.is_compiling()
        and not _is_exporting()
        and not torch_private.is_functorch_active()
        and torch.is_grad_enabled()
        and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
    )


def _forced_kernel(name: str, x: Tensor) -> ModuleType:
    kernel = KERNELS[name]
    reason = _why_unavailable(name)
    if reason is not None:
        raise RuntimeError(f'{VARIABLE}={name} is set, but {reason}')
    fits = KERNEL_OF_DEVICE.get(x.device.type) == name
    return kernel if fits and _why_unavailable(name, x.device.index) is None else plain_kernel


def backend_report() -> str:
    """Say in words what computes ACON here and why.

    Returns:
        One line for each device, such as ``cpu: compiled kernel for AVX512``, and one for what
        holds on all of them.

    Examples:
        >>> print(backend_report())  # doctest: +ELLIPSIS
        cpu: ...
        cuda: ...
        traced, scripted, exported, compiled or functorch-transformed: the formula
    """
    if _forced == 'formula':
        return f'the formula everywhere, because {VARIABLE}=formula is set'
    if torch_private.MISSING:
        missing = ' and no '.join(torch_private.MISSING)
        return f'the formula everywhere, because torch {torch.__version__} has no {missing}'
    lines = []
    for device, name in KERNEL_OF_DEVICE.items():
        reason = _why_unavailable(name)
        if _forced is not None and _forced != name:
            reason = f'{VARIABLE}={_forced} is set'
        if reason is None:
            lines.append(f'{device}: {KERNELS[name].describe()}')
        else:
            lines.append(f'{device}: {plain_kernel.describe()}, because {reason}')
        for i in range(torch.cuda.device_count() if name == 'triton' and reason is None else 0):
            if (reason := _why_unavailable(name, i)) is not None:
                lines.append(f'{device}:{i}: {plain_kernel.describe()}, because {reason}')
    lines.append('traced, scripted, exported, compiled or functorch-transformed: the formula')
    return '\n'.join(lines)
