"""Export a classifier or a detector to an INT8 file for onnxruntime."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acon_mm.deployment.quantization import QuantizedFile


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        'images', nargs='+', metavar='IMAGE', help='calibration image, or a folder of them'
    )
    parser.add_argument('--out', required=True, help='ONNX file to write')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[224],
        metavar='PIXELS',
        help='side of the exported example, or its height and width (default: 224)',
    )
    parser.add_argument(
        '--test', action='store_true', help='run the float and the INT8 file on the test data'
    )
    parser.add_argument(
        '--keep', nargs='+', default=(), metavar='OPERATOR', help='stays in float, as in Sigmoid'
    )
    return parser


def describe(file: 'QuantizedFile') -> str:
    """Return the lines for a reader."""
    before, after = file.sizes
    lines = [f'{file.path}: {after / 1e6:.1f} MB; float32 {before / 1e6:.1f} MB']
    for name, values in zip(('float32', 'INT8'), file.metrics, strict=False):
        lines += [f'{name}: {metric} {value:.4g}' for metric, value in values.items()]
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = build_parser()
    arguments = vars(parser.parse_args())
    if len(arguments['shape']) > 2 or min(arguments['shape']) < 1:
        parser.error('--shape takes one or two positive numbers')
    arguments['shape'] = (arguments['shape'][0], arguments['shape'][-1])
    # Takes seconds, which --help should not.
    from acon_mm.deployment.quantization import quantize_model
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        print(describe(quantize_model(**arguments)))
