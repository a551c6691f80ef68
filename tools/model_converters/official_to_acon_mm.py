"""Convert a checkpoint that the paper's authors released to one of this project, or back."""

import argparse


def main() -> None:
    """Convert the file; on a bad one say so in one sentence and exit with status 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='checkpoint to read')
    parser.add_argument('dst', help='checkpoint to write, whole or not at all')
    parser.add_argument(
        '--model',
        required=True,
        metavar='NAME',
        help='model that src is of, as resnet50_metaacon; the error for another name lists all',
    )
    parser.add_argument(
        '--reverse',
        action='store_true',
        help="src is ours and dst gets the authors' layout, with the same outputs",
    )
    arguments = vars(parser.parse_args())
    # Takes seconds, which --help should not.
    from acon_mm.apis.conversion import convert_official
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        convert_official(**arguments)


if __name__ == '__main__':
    main()
