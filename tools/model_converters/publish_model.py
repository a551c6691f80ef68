"""Write the weights of a checkpoint without the rest of it, with a hash in the name."""

import argparse


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('in_file', help='checkpoint to read')
    parser.add_argument('out_file', help='file to write; the hash comes before its ending .pth')
    parser.add_argument(
        '--no-ema',
        action='store_true',
        help='take the trained weights, not their moving average',
    )
    parser.add_argument(
        '--safetensors', action='store_true', help='write a .safetensors file as well'
    )
    return parser


if __name__ == '__main__':
    arguments = vars(build_parser().parse_args())
    # Takes seconds, which --help should not.
    from acon_mm.apis.publishing import publish_model
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        for path in publish_model(**arguments):
            print(f'{path}: {path.stat().st_size / 1e6:.1f} MB')
