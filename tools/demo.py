"""Predict pictures, folders of pictures and videos; write pictures and one JSON."""

import argparse


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='picture, video or folder')
    parser.add_argument('--model', required=True, metavar='NAME|CONFIG', help='name or config')
    parser.add_argument('--checkpoint', required=True, help='path or URL of the checkpoint')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the results')
    parser.add_argument('--device', default='cpu', help='where the model runs, as in cuda:0')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='lowest score of a box that is shown'
    )
    return parser


if __name__ == '__main__':
    arguments = vars(build_parser().parse_args())
    # Takes seconds, which --help should not.
    from acon_mm.apis.demo import demo
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        demo(**arguments)
