"""What the paper's authors call the layers of the networks that their code builds.

They released the weights of most of them.

Each naming takes a state-dict key of our classifier and returns theirs.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

# Their blocks of one network are numbered through: how many a stage has.
_SHUFFLENET_BLOCKS = (4, 8, 4)
_TFNET_BLOCKS = (2, 3, 8, 3)

# Their lightweight networks number the layers of a row of units. By our name of a unit, the
# number of its first layer: a depth-wise convolution and its norm are followed by no activation.
_FIRST_LAYER = {
    'conv1': 0,
    'branch_main.0': 0,
    'branch_main.1': 3,
    'branch_main.2': 5,
    'branch_proj.0': 0,
    'branch_proj.1': 2,
    'conv_last': 0,
}
_PLACE_IN_UNIT = {'conv': 0, 'bn': 1, 'activate': 2}


def resnet_name(key: str, activations: dict[str, str]) -> str:
    """Return the authors' name of a tensor of a ResNet.

    Args:
        key: Our name.
        activations: Their names of a block's activations that have parameters, by our names.
    """
    key = key.removeprefix('backbone.').removeprefix('head.')
    return re.sub(r'\b(act\d)\b', lambda match: activations[match[1]], key)


def lightweight_name(key: str, num_blocks: Sequence[int]) -> str:
    """Return the authors' name of a tensor of ShuffleNetV2 or TFNet.

    Args:
        key: Our name.
        num_blocks: The number of blocks of each stage; theirs are numbered through.
    """

    def block(match: re.Match) -> str:
        stage, index = int(match[1]) - 1, int(match[2])
        return f'features.{sum(num_blocks[:stage]) + index}'

    def layer(match: re.Match) -> str:
        row = match[1].partition('.')[0].replace('conv1', 'first_conv')
        return f'{row}.{_FIRST_LAYER[match[1]] + _PLACE_IN_UNIT[match[2]]}'

    key = key.removeprefix('backbone.').replace('head.fc', 'classifier.0')
    key = re.sub(r'^layer(\d)\.(\d+)', block, key)
    return re.sub(r'\b(conv1|conv_last|branch_\w+\.\d)\.(conv|bn|activate)\b', layer, key)


def _namings() -> dict[str, Callable[[str], str]]:
    basic = partial(resnet_name, activations={'act1': 'acon1', 'act2': 'acon2'})
    bottleneck = partial(resnet_name, activations={'act2': 'acon'})
    shuffle = partial(lightweight_name, num_blocks=_SHUFFLENET_BLOCKS)
    tf = partial(lightweight_name, num_blocks=_TFNET_BLOCKS)
    widths = ('0.5', '1.0', '1.5', '2.0')
    kinds = ('aconc', 'metaacon')
    return {
        'resnet18_aconc': basic,
        **{f'resnet{depth}_{kind}': bottleneck for kind in kinds for depth in (50, 101, 152)},
        **{f'shufflenetv2_{width}x_{kind}': shuffle for kind in kinds for width in widths},
        **{f'tfnet_{width}': tf for width in widths},
    }


# By the name of each model that the authors' code builds.
OFFICIAL_NAMES = _namings()
