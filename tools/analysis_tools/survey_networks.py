"""Replace the activations of the networks that mmpretrain, mmdet and mmseg register.

Each network is built with its default arguments or those in this file. Its activations are
replaced by Meta-ACON; then it is run forward and backward, and its state is loaded into a second
one. The table of all of them is in docs/networks.md.
"""

import argparse
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from acon_mm.analysis.markdown import NONE, markdown_table, replace_between
from acon_mm.errors import UserError
from acon_mm.models.activations.acon import ChannelActivation
from acon_mm.models.replacement.example_input import SIZES, example_input
from acon_mm.registry import MODELS

LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg')

HRNET = dict(
    stage1=dict(
        num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(4,), num_channels=(64,)
    ),
    stage2=dict(
        num_modules=1, num_branches=2, block='BASIC', num_blocks=(4, 4), num_channels=(18, 36)
    ),
    stage3=dict(
        num_modules=4,
        num_branches=3,
        block='BASIC',
        num_blocks=(4, 4, 4),
        num_channels=(18, 36, 72),
    ),
    stage4=dict(
        num_modules=3,
        num_branches=4,
        block='BASIC',
        num_blocks=(4, 4, 4, 4),
        num_channels=(18, 36, 72, 144),
    ),
)
RESNET18 = dict(
    type='mmseg.ResNetV1c', depth=18, out_indices=(0, 1, 2, 3), norm_cfg=dict(type='BN')
)
STDC = dict(
    type='mmseg.STDCNet',
    stdc_type='STDCNet1',
    in_channels=3,
    channels=(32, 64, 256, 512, 1024),
    bottleneck_type='cat',
    num_convs=4,
    norm_cfg=dict(type='BN'),
    act_cfg=dict(type='ReLU'),
    with_final_conv=False,
)
ARGUMENTS: dict[str, dict] = {
    **{f'mmpretrain.{name}': dict(depth=50) for name in ('ResNet', 'ResNeXt', 'ResNeSt')},
    **{f'mmpretrain.{name}': dict(depth=50) for name in ('ResNetV1c', 'ResNetV1d', 'Res2Net')},
    **{f'mmpretrain.{name}': dict(depth=50) for name in ('SEResNet', 'SEResNeXt', 'CSPResNet')},
    **{f'mmpretrain.{name}': dict(depth=50) for name in ('CSPResNeXt', 'SparseResNet')},
    **{f'mmdet.{name}': dict(depth=50) for name in ('ResNet', 'ResNetV1d', 'DetectoRS_ResNet')},
    **{f'mmdet.{name}': dict(depth=50) for name in ('Res2Net', 'ResNeSt')},
    **{f'mmseg.{name}': dict(depth=50) for name in ('ResNet', 'ResNetV1c', 'ResNetV1d')},
    'mmpretrain.CSPDarkNet': dict(depth=53),
    'mmpretrain.ResNet_CIFAR': dict(depth=18),
    'mmpretrain.VGG': dict(depth=11, num_classes=10),
    'mmpretrain.LeViT': dict(arch='128s'),
    'mmpretrain.MobileOne': dict(arch='s0'),
    'mmpretrain.RegNet': dict(arch='regnetx_400mf'),
    'mmpretrain.RepLKNet': dict(arch='31B'),
    'mmpretrain.RepMLPNet': dict(arch='B'),
    'mmpretrain.RepVGG': dict(arch='A0'),
    'mmpretrain.PCPVT': dict(arch='small'),
    'mmpretrain.SVT': dict(arch='small'),
    'mmpretrain.Vig': dict(arch='tiny'),
    'mmpretrain.PyramidVig': dict(arch='tiny'),
    'mmpretrain.LeNet5': dict(num_classes=10),
    'mmpretrain.AlexNet': dict(num_classes=10),
    'mmdet.DetectoRS_ResNeXt': dict(depth=50, groups=32, base_width=4),
    'mmdet.ResNeXt': dict(depth=50, groups=32, base_width=4),
    'mmdet.RegNet': dict(arch='regnetx_400mf'),
    'mmdet.HRNet': dict(extra=HRNET),
    'mmdet.SSDVGG': dict(depth=16, out_indices=(3, 4), out_feature_indices=(22, 34)),
    'mmdet.TridentResNet': dict(
        depth=50,
        num_branch=3,
        test_branch_idx=1,
        trident_dilations=(1, 2, 3),
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        num_stages=3,
        out_indices=(2,),
    ),
    'mmseg.ResNeXt': dict(depth=50, groups=32, base_width=4),
    'mmseg.ResNeSt': dict(depth=50),
    'mmseg.HRNet': dict(extra=HRNET),
    'mmseg.BiSeNetV1': dict(backbone_cfg=RESNET18),
    'mmseg.ICNet': dict(
        backbone_cfg=dict(RESNET18, depth=50, contract_dilation=True),
        in_channels=3,
        layer_channels=(512, 2048),
        light_branch_middle_channels=32,
    ),
    'mmseg.STDCNet': {key: value for key, value in STDC.items() if key != 'type'},
    'mmseg.STDCContextPathNet': dict(
        backbone_cfg=STDC,
        last_in_channels=(1024, 512),
        ffm_cfg=dict(in_channels=384, out_channels=256, scale_factor=4),
    ),
    'mmseg.TIMMBackbone': dict(model_name='resnet18'),
    'mmpretrain.TIMMBackbone': dict(model_name='resnet18'),
    'mmseg.PCPVT': dict(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        patch_sizes=(4, 2, 2, 2),
        strides=(4, 2, 2, 2),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 4, 6, 3),
        sr_ratios=(8, 4, 2, 1),
    ),
    'mmseg.DeconvModule': dict(in_channels=8, out_channels=8),
    'mmseg.InterpConv': dict(in_channels=8, out_channels=8),
}
MAPS = [64, 128, 256]
NECKS_AND_HEADS: dict[str, dict] = {
    'mmdet.FPN': dict(
        in_channels=MAPS, out_channels=64, num_outs=5, act_cfg=dict(type='ReLU')
    ),
    'mmdet.PAFPN': dict(
        in_channels=MAPS, out_channels=64, num_outs=3, act_cfg=dict(type='ReLU')
    ),
    'mmdet.CSPNeXtPAFPN': dict(in_channels=MAPS, out_channels=64, num_csp_blocks=1),
    'mmdet.YOLOXPAFPN': dict(in_channels=MAPS, out_channels=64, num_csp_blocks=1),
    'mmdet.RetinaHead': dict(num_classes=4, in_channels=64, feat_channels=64),
    'mmdet.FCOSHead': dict(num_classes=4, in_channels=64, feat_channels=64),
    'mmdet.ATSSHead': dict(
        num_classes=4,
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(
            type='mmdet.AnchorGenerator', ratios=[1.0], octave_base_scale=8,
            scales_per_octave=1, strides=[8, 16, 32, 64, 128],
        ),
    ),
    'mmdet.GFLHead': dict(
        num_classes=4,
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(
            type='mmdet.AnchorGenerator', ratios=[1.0], octave_base_scale=8,
            scales_per_octave=1, strides=[8, 16, 32, 64, 128],
        ),
    ),
    'mmdet.RTMDetSepBNHead': dict(
        num_classes=4,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(type='mmdet.MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='mmdet.DistancePointBBoxCoder'),
    ),
    'mmdet.YOLOXHead': dict(num_classes=4, in_channels=64, feat_channels=64),
    'mmseg.FCNHead': dict(in_channels=64, in_index=0, channels=32, num_classes=4),
    'mmseg.PSPHead': dict(in_channels=64, in_index=0, channels=32, num_classes=4),
    'mmseg.ASPPHead': dict(in_channels=64, in_index=0, channels=32, num_classes=4),
    'mmseg.UPerHead': dict(
        in_channels=MAPS, in_index=[0, 1, 2], channels=32, num_classes=4
    ),
    'mmseg.SegformerHead': dict(
        in_channels=MAPS, in_index=[0, 1, 2], channels=32, num_classes=4
    ),
}  # fmt: skip


class Result(NamedTuple):
    """What became of a network.

    Attributes:
        name: Its registered name, with the scope.
        replaced: The number of activations replaced.
        reason: Why it failed; None if it passed.
    """

    name: str
    replaced: int
    reason: str | None


def networks(libraries: tuple[str, ...] = LIBRARIES) -> Iterator[tuple[str, dict]]:
    """Yield the name and the arguments of each backbone, and then of the necks and heads."""
    for library in libraries:
        import_module(f'{library}.models')
        registry = import_module(f'{library}.registry').MODELS
        for name, cls in registry.module_dict.items():
            if cls.__module__.startswith(f'{library}.models.backbones'):
                yield f'{library}.{name}', ARGUMENTS.get(f'{library}.{name}', {})
    for name, arguments in NECKS_AND_HEADS.items():
        if name.partition('.')[0] in libraries:
            yield name, arguments


def survey(name: str, arguments: dict, act_cfg: dict | None = None) -> Result:
    """Replace the activations of a network and try what training does with it.

    Args:
        name: Its registered name, with the scope.
        arguments: Its arguments.
        act_cfg: The new activation, Meta-ACON by default.
    """
    library = name.partition('.')[0]
    cfg = dict(
        type='acon_mm.ReplaceActivations',
        module=dict(arguments, type=name),
        act_cfg=act_cfg or dict(type='acon_mm.MetaAcon'),
    )
    with DefaultScope.overwrite_default_scope(library):
        try:
            MODELS.build(dict(arguments, type=name))
        except Exception as error:  # of a network that its library cannot build here
            return Result(name, 0, f'does not build: {_sentence(error)}')
        try:
            network = MODELS.build(cfg)
            _check(network, cfg)
        except UserError as error:
            return Result(name, 0, _sentence(error))
        except Exception as error:  # any other reason is one to look at
            return Result(name, 0, f'{type(error).__name__}: {_sentence(error)}')
    return Result(name, sum(isinstance(m, ChannelActivation) for m in network.modules()), None)


def _check(network: nn.Module, cfg: dict) -> None:
    network.train()
    output = _run(network, cfg)
    sum(x.float().sum() for x in _tensors(output)).backward()
    for name, module in network.named_modules():
        if isinstance(module, ChannelActivation):
            for key, param in module.named_parameters():
                if param.requires_grad and param.grad is None:
                    raise AssertionError(f'{name}.{key} gets no gradient')
    missing = MODELS.build(cfg).load_state_dict(network.state_dict(), strict=False).missing_keys
    if missing and _loads_itself(cfg['module']):
        raise AssertionError(f'the checkpoint lacks {missing[0]}')


def _loads_itself(cfg: dict) -> bool:
    """Return whether a stock network loads all of its own state; SwinTransformerV2 does not."""
    stock = MODELS.build(cfg)
    return not stock.load_state_dict(stock.state_dict(), strict=False).missing_keys


def _run(network: nn.Module, cfg: dict) -> Any:
    for size in SIZES:
        x = example_input(network, cfg['module'], size)
        try:
            return network(x)
        except Exception as error:
            last = error
    raise last


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.requires_grad else []
    if isinstance(value, dict):
        return _tensors(list(value.values()))
    return (
        [x for item in value for x in _tensors(item)] if isinstance(value, (list, tuple)) else []
    )


def _sentence(error: Exception) -> str:
    text = ' '.join(str(error).split()).replace('|', '/')
    return re.sub(r'\S*/site-packages/', '', text)[:300]


def table(results: Sequence[Result]) -> str:
    """Write the results as a table in Markdown, with their sum above it."""
    passed = [result for result in results if result.reason is None]
    rows = [
        [result.name, str(result.replaced) if result.reason is None else NONE, result.reason or '']
        for result in results
    ]
    header = ['Network', 'Activations', 'Reason']
    return f'{len(passed)} of {len(results)} pass.\n\n{markdown_table(header, rows)}'


def read_table(text: str) -> list[Result]:
    """Return the results of a table that :func:`table` has written."""
    rows = re.findall(r'^\| ((?:mm|torch)\w+\.\w+) *\| *(\S+) *\| *(.*?) *\|$', text, re.MULTILINE)
    return [
        Result(name, 0, reason) if number == NONE else Result(name, int(number), None)
        for name, number, reason in rows
    ]


def main() -> None:
    """Survey the networks and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', nargs='+', metavar='NAME', help='such as mmdet.CSPNeXt')
    parser.add_argument(
        '--update', type=Path, metavar='FILE', help='put the results into the table of this file'
    )
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    warnings.simplefilter('ignore')
    text = args.update.read_text(encoding='utf-8') if args.update else ''
    results = {result.name: result for result in read_table(text)}
    for name, arguments in networks():
        if not args.only or name in args.only:
            torch.manual_seed(0)
            results[name] = survey(name, arguments)
            print(*results[name], flush=True)
    if args.update:
        order = [name for name, _ in networks()]
        rows = sorted(results.values(), key=lambda result: order.index(result.name))
        args.update.write_text(replace_between(text, 'survey', table(rows)), encoding='utf-8')


if __name__ == '__main__':
    main()
