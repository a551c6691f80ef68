"""Export a trained model to ONNX, TorchScript or a program of torch.export."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acon_mm.deployment import ExportedFile


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--to', required=True, choices=('onnx', 'torchscript', 'exported'))
    parser.add_argument('--out', help='file to write (default: named after the config)')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[224],
        metavar='PIXELS',
        help='side of the images, or their height and width (default: 224)',
    )
    parser.add_argument(
        '--dynamic', action='store_true', help='leave batch, height and width free'
    )
    parser.add_argument(
        '--exporter',
        choices=('dynamo', 'torchscript'),
        default='dynamo',
        help='what makes an ONNX file (default: dynamo)',
    )
    parser.add_argument(
        '--with-nms', action='store_true', help='decode and select the boxes of a RetinaNet'
    )
    parser.add_argument(
        '--verify',
        action='store_true',
        dest='verify_file',
        help='compare the file with the model; --dynamic always does',
    )
    parser.add_argument(
        '--latency', action='store_true', help='time the file beside that of the ReLU network'
    )
    parser.add_argument(
        '--threads', type=int, default=1, metavar='N', help='of onnxruntime, for --latency'
    )
    return parser


def describe(file: 'ExportedFile') -> str:
    """Return the lines for a reader."""
    kinds = ', '.join(f'{name} ×{count}' for name, count in file.operators.most_common())
    opset = f', opset {file.opset}' if file.opset else ''
    lines = [
        f'{file.path}: {file.path.stat().st_size / 1e6:.1f} MB{opset}',
        f'{file.operators.total()} operators: {kinds}',
        *(f'{key}: {text[:100]}' for key, text in file.metadata.items()),
    ]
    for (batch, height, width), difference in file.differences.items():
        lines.append(
            f'{batch} × 3 × {height} × {width}: differs from PyTorch by {difference:.1e} of the '
            'largest value'
        )
    if file.latency:
        ours, relu = file.latency
        lines.append(f'one image: {ours:.2f} ms; with ReLU {relu:.2f} ms, {ours / relu:.2f} times')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = build_parser()
    arguments = vars(parser.parse_args())
    if len(arguments['shape']) > 2 or min(arguments['shape']) < 1:
        parser.error('--shape takes one or two positive numbers')
    arguments['shape'] = (arguments['shape'][0], arguments['shape'][-1])
    # Takes seconds, which --help should not.
    from acon_mm.deployment import export_model
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        print(describe(export_model(**arguments)))
