"""Train a detector, a classifier or a segmentor from its config."""

import argparse

from run_arguments import add_run_arguments


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser; the flags are those of mmdet's script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from a checkpoint; without a path, from the latest one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the real batch size',
    )
    add_run_arguments(parser)
    return parser


if __name__ == '__main__':
    arguments = build_parser().parse_args()
    # Takes seconds, which --help should not.
    from acon_mm import apis
    from acon_mm.apis.cli import run

    run(apis.train, arguments)
