"""Test a checkpoint of a detector, a classifier or a segmentor and print its metrics."""

import argparse

from run_arguments import add_run_arguments


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser; the flags are those of mmdet's script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        '--out',
        metavar='FILE.pkl',
        help='write the predictions to this file; of a segmentor also a folder, for PNGs with the '
        'class of each pixel',
    )
    parser.add_argument('--show-dir', help='folder for pictures with the predictions')
    parser.add_argument('--show', action='store_true', help='show the pictures in a window')
    parser.add_argument(
        '--wait-time', type=float, default=2.0, help='seconds that each picture is shown'
    )
    parser.add_argument(
        '--tta', action='store_true', help='merge the predictions for several views of an image'
    )
    add_run_arguments(parser)
    return parser


if __name__ == '__main__':
    arguments = build_parser().parse_args()
    # Takes seconds, which --help should not.
    from acon_mm import apis
    from acon_mm.apis.cli import run

    run(apis.test, arguments)
