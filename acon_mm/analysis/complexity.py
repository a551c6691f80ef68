"""The size of a network and what one pass through it costs."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from mmengine.analysis import FlopAnalyzer, jit_handles
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from acon_mm.apis.config import load_config, require_keys
from acon_mm.errors import UserError
from acon_mm.models import activations
from acon_mm.registry import type_name

# The paper's FLOPs are multiply-accumulates of convolutions and linear layers. mmengine's own list
# adds norms, pooling and resizing, each in a unit of its own.
_COUNTED = {
    'aten::_convolution': jit_handles.conv_flop_jit,
    'aten::addmm': jit_handles.addmm_flop_jit,
    'aten::bmm': jit_handles.bmm_flop_jit,
    'aten::linear': jit_handles.linear_flop_jit,
    'aten::matmul': jit_handles.matmul_flop_jit,
    'aten::mm': jit_handles.matmul_flop_jit,
}

_ACTIVATION_ROOMS = (activations.__name__, nn.ReLU.__module__)
# torch keeps it in the same module.
_NO_ACTIVATIONS = (nn.MultiheadAttention,)


@dataclass(frozen=True)
class Complexity:
    """What a network costs for one image.

    Attributes:
        params: The number of parameters, those of norms and the classifier included.
        flops: The multiply-accumulates of all convolutions and linear layers, additions of their
            biases aside, those inside activations included.
        activation_params: The part of ``params`` that belongs to activations.
        activation_flops: The part of ``flops`` that is spent inside activations: Meta-ACON's two
            layers, ACON-FReLU's convolution.
        activation_elements: How many values the activations are applied to. Their element-wise
            arithmetic is a handful of operations on each and not in ``flops``.
        left_out: How often operations that ``flops`` leaves out are called, by torch's name.
            Those that mmengine takes for free, ``aten::relu`` and reshaping among them, are not
            listed.
    """

    params: int
    flops: int
    activation_params: int
    activation_flops: int
    activation_elements: int
    left_out: dict[str, int]


def count_complexity(model: nn.Module, shape: Sequence[int] = (3, 224, 224)) -> Complexity:
    """Count the parameters and the multiply-accumulates of a network for one image.

    Args:
        model: The network, on the CPU, which is put into eval mode. It takes one tensor.
        shape: The shape of the image, ``(channels, height, width)``.

    Returns:
        The counts.

    Raises:
        RuntimeError: If the network does not accept an image of that shape.
    """
    model = model.eval()
    image = torch.zeros((1, *shape))
    counter = FlopAnalyzer(model, image)
    counter.clear_op_handles().set_op_handle(**_COUNTED)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_module = counter.by_module()
    own = dict(_activations(model))
    return Complexity(
        params=sum(p.numel() for p in model.parameters()),
        flops=int(counter.total()),
        activation_params=sum(p.numel() for m in own.values() for p in m.parameters()),
        activation_flops=int(sum(by_module[name] for name in own)),
        activation_elements=_count_elements(model, list(own.values()), image),
        left_out=dict(sorted(counter.unsupported_ops().items())),
    )


def count_config(
    config: str | os.PathLike | Config, size: Sequence[int] = (224, 224)
) -> Complexity:
    """Count the parameters and the multiply-accumulates of a config's model for one RGB image.

    Args:
        config: Path of a config file, or a config.
        size: The height and the width of the image.

    Returns:
        The counts.

    Raises:
        UserError: If the config cannot be read or has no model, or its model does not accept an
            image of that size.
    """
    cfg = load_config(config)
    require_keys(cfg, 'model')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model = MODELS.build(cfg.model)
    try:
        return count_complexity(model, (3, *size))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f'shape={tuple(size)} does not fit the model of {cfg.filename}: {reason}'
        ) from error


def image_size(cfg: Config) -> tuple[int, int]:
    """Return the height and the width of the images that a config tests with.

    They are those of the last step of the test pipeline that names both, rounded up as the
    preprocessor pads a batch; 224×224 if no step does.

    Args:
        cfg: The config.
    """
    height, width = 224, 224
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    for step in dataset.get('pipeline') or ():
        kind = type_name(step['type'])
        if kind == 'Resize' and step.get('scale'):
            width, height = _pair(step['scale'])
        elif kind == 'CenterCrop':
            height, width = _pair(step['crop_size'])
    divisor = (cfg.model.get('data_preprocessor') or {}).get('pad_size_divisor', 1)
    return math.ceil(height / divisor) * divisor, math.ceil(width / divisor) * divisor


def _pair(size: int | Sequence[int]) -> Sequence[int]:
    return (size, size) if isinstance(size, int) else size


def _activations(module: nn.Module, name: str = '') -> Iterator[tuple[str, nn.Module]]:
    """Yield the name and the module of each activation; not those inside another one."""
    in_room = type(module).__module__.startswith(_ACTIVATION_ROOMS)
    if in_room and not isinstance(module, _NO_ACTIVATIONS):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from _activations(child, f'{name}.{child_name}'.lstrip('.'))


@torch.no_grad()
def _count_elements(model: nn.Module, modules: Sequence[nn.Module], image: Tensor) -> int:
    counts = []
    with ExitStack() as hooks:
        for module in modules:
            handle = module.register_forward_hook(lambda m, args, out: counts.append(out.numel()))
            hooks.callback(handle.remove)
        model(image)
    return sum(counts)
