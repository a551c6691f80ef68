"""A training stops at the first number that is not finite, with its last good checkpoint kept."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from acon_mm.checkpoints.finding import pointed_at
from acon_mm.errors import UnhealthyRunError
from acon_mm.models.activations.acon import ChannelActivation
from acon_mm.registry import HOOKS

_CAUSES = (
    'usual causes are a learning rate that is too high or has no warm-up, no clip_grad, and '
    'damaged data'
)


@HOOKS.register_module()
class HealthHook(Hook):
    """Stop a training whose loss, gradient norm or weights are NaN or infinite.

    Losses are looked at before the step, so the weights in memory are still those of the step
    before; the error names the first weight that is not finite, or else the first layer whose
    output is not. On a GPU this waits for the forward pass, where mmengine waits for the step.
    Gradient norms are looked at where ``clip_grad`` computes them; with mixed precision an
    infinite one is no fault, since the step is left out. Parameters of activations are looked at
    every ``interval`` iterations, and all weights whenever a checkpoint is saved, so that none
    that is not finite goes into a checkpoint.

    Args:
        interval: The iterations between two looks at the parameters of activations.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Look at the losses of the model from now on."""

        def look(model: nn.Module, args: tuple, kwargs: dict, outputs: Any) -> None:
            if not model.training or not isinstance(outputs, dict):
                return
            for name, value in outputs.items():
                if 'loss' in name and not _is_finite(value):
                    self._handle.remove()
                    layer = next(_unhealthy(model), None) or _first_layer(model, args, kwargs)
                    self._stop(runner, f'{name} is not finite', layer)

        self._handle = _bare(runner.model).register_forward_hook(look, with_kwargs=True)

    def after_train(self, runner: Runner) -> None:
        """Leave the model alone again."""
        self._handle.remove()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Look at the gradient norm and, at times, the parameters of activations.

        Raises:
            UnhealthyRunError: If one is not finite.
        """
        if not isinstance(runner.optim_wrapper, AmpOptimWrapper):
            history = runner.message_hub.log_scalars.get('train/grad_norm')
            if history is not None and not math.isfinite(history.current()):
                self._stop(runner, 'the gradient norm is not finite', '')
        if self.every_n_train_iters(runner, self.interval):
            layer = next(_unhealthy(_bare(runner.model), activations_only=True), None)
            if layer is not None:
                self._stop(runner, 'a parameter of an activation is not finite', layer)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep weights that are not finite out of checkpoints.

        Raises:
            UnhealthyRunError: If there are any.
        """
        for name, value in checkpoint['state_dict'].items():
            if not _is_finite(value):
                self._stop(runner, 'a weight is not finite, so it is not saved', name)

    def _stop(self, runner: Runner, what: str, layer: str) -> None:
        last = pointed_at(runner.work_dir)
        kept = f'no checkpoint was saved before: {runner.work_dir!r} has none'
        if last is not None:
            kept = f'the last good checkpoint is {str(last)!r}'
        raise UnhealthyRunError(
            f'training stopped at iteration {runner.message_hub.get_info("iter") + 1}: {what}'
            f'{f", first seen in {layer}" if layer else ""}; {_CAUSES}; {kept}'
        )


def _bare(model: Any) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


def _unhealthy(model: nn.Module, *, activations_only: bool = False) -> Iterator[str]:
    """Yield the names of parameters that are not finite."""
    for name, module in model.named_modules():
        if activations_only and not isinstance(module, ChannelActivation):
            continue
        for key, tensor in module.named_parameters(recurse=activations_only):
            if not _is_finite(tensor):
                yield f'{name}.{key}'


def _first_layer(model: nn.Module, args: tuple, kwargs: dict) -> str:
    """Compute the losses again and return the first layer whose output is not finite."""
    found: list[str] = []

    def look(name: str, inputs: Any, output: Any) -> None:
        if not _is_finite(output):
            found.append(name if _is_finite(inputs) else f'the input of {name}')

    handles = [
        module.register_forward_hook(lambda _, x, y, name=name: look(name, x, y))
        for name, module in model.named_modules()
        if name
    ]
    # Norms that ask other processes for their statistics would wait for them.
    model.eval()
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    except Exception:  # the sentence is worth more than the name of the layer
        return ''
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ''


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    return True
