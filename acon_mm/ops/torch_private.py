"""The names of torch that are private, needed in each call, and have no public counterpart.

A release of torch may rename one of them. All of them are looked up once, at import: if one is
missing, a warning says so, every tensor counts as transformed and every module as hooked, and so
ACON is computed by the formula alone, which needs none of them.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.autograd import forward_ad

_foreach_add_ = getattr(torch, '_foreach_add_', None)
_OF_C = ('_are_functorch_transforms_active', '_len_torch_dispatch_stack')
_OF_MODULES = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')
_OF_ALL_MODULES = tuple(f'_global{name}' for name in _OF_MODULES)

_owners = (
    ('torch._C', getattr(torch, '_C', None), _OF_C),
    ('torch.autograd.forward_ad', forward_ad, ('_current_level',)),
    ('torch.nn.Module', nn.Module(), _OF_MODULES),
    ('torch.nn.modules.module', nn.modules.module, _OF_ALL_MODULES),
)
MISSING = [
    f'{path}.{name}'
    for path, owner, names in _owners
    for name in names
    if not hasattr(owner, name)
]
"""The names that this torch lacks."""

if MISSING:
    warnings.warn(
        f'torch {torch.__version__} has no {" and no ".join(MISSING)}: acon_mm does not know this '
        'release and computes ACON by the formula, which is slower and takes more memory.',
        RuntimeWarning,
        stacklevel=2,
    )

    def is_transformed() -> bool:
        """Return True: without its names nobody can tell."""
        return True

    is_functorch_active = is_transformed

    def has_hooks(module: nn.Module) -> bool:
        """Return True: without its names nobody can tell."""
        return True

else:
    _are_functorch_transforms_active, _len_torch_dispatch_stack = (
        getattr(torch._C, name) for name in _OF_C
    )
    _hooks_of_all = [getattr(nn.modules.module, name) for name in _OF_ALL_MODULES]

    def is_transformed() -> bool:
        """Return whether a functorch transform, forward-mode AD or a dispatch mode is active."""
        # The latter are modes such as make_fx and FLOP counters.
        return is_functorch_active() or _len_torch_dispatch_stack() > 0

    def is_functorch_active() -> bool:
        """Return whether a functorch transform or forward-mode AD is active.

        Dynamo can look into this one.
        """
        # As autograd.Function.apply asks.
        return _are_functorch_transforms_active() or forward_ad._current_level >= 0

    def has_hooks(module: nn.Module) -> bool:
        """Return whether a module has forward or backward hooks, or all modules have."""
        return bool(
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or any(_hooks_of_all)
        )


def count_up(counters: Sequence[torch.Tensor]) -> None:
    """Add 1 to each of some integer tensors in place, in one launch on a GPU.

    Args:
        counters: The tensors, on one device.
    """
    if _foreach_add_ is not None and counters:
        _foreach_add_(counters, 1)
        return
    for counter in counters:
        counter.add_(1)


is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._utils.is_compiling
"""``torch.compiler.is_compiling``, which torch 2.1 has under a private name."""
