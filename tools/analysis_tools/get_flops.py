"""Count the parameters and FLOPs of a config's model for one image.

FLOPs are multiply-accumulates of convolutions and linear layers, those inside activations included
and stated separately. What is left out, such as norms, poolings and the element-wise arithmetic of
activations, is listed.
"""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acon_mm.analysis.complexity import Complexity


def positive(text: str) -> int:
    """Read a positive integer from the command line."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def describe(cost: 'Complexity', size: list[int]) -> str:
    """Return the lines for a reader."""
    left_out = ', '.join(f'{name.split("::")[-1]} ×{n}' for name, n in cost.left_out.items())
    return '\n'.join(
        [
            f'one image of 3×{size[0]}×{size[1]}',
            f'parameters  {cost.params:>14,}   {cost.activation_params:,} of them in activations',
            f'FLOPs       {cost.flops:>14,}   {cost.activation_flops:,} of them in activations',
            'FLOPs are multiply-accumulates of convolutions and linear layers. Left out are',
            f'- the element-wise part of activations, which get {cost.activation_elements:,} '
            'values in all and need a handful of operations for each;',
            f'- these operations with the number of their calls: {left_out}.',
        ]
    )


def main() -> None:
    """Parse the arguments, count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config file')
    parser.add_argument(
        '--shape',
        type=positive,
        nargs='+',
        metavar='PIXELS',
        help='side of the image, or its height and width (default: those of the test pipeline)',
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    args = parser.parse_args()
    if args.shape and len(args.shape) > 2:
        parser.error(f'--shape takes one or two numbers, got {len(args.shape)}')
    # Takes seconds, which --help should not.
    from acon_mm.analysis.complexity import count_config, image_size
    from acon_mm.apis.config import load_config
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        cfg = load_config(args.config)
        size = (args.shape * 2)[:2] if args.shape else image_size(cfg)
        cost = count_config(cfg, size)
    if args.json:
        print(json.dumps(asdict(cost) | {'shape': [3, *size]}))
    else:
        print(describe(cost, size))


if __name__ == '__main__':
    main()
