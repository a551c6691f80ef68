"""Draw the curves of ACON-C and its derivative into an image file."""

import argparse
import sys


def main() -> None:
    """Parse the arguments and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', default='acon_curves.png', help='the image, PNG, SVG or PDF by its name'
    )
    parser.add_argument('--dpi', type=int, default=110, help='pixels per inch')
    args = parser.parse_args()
    # Takes seconds, which --help should not.
    from acon_mm.analysis.curves import draw_curves
    from acon_mm.errors import UserError

    try:
        draw_curves().savefig(args.out, dpi=args.dpi)
    except UserError as error:
        sys.exit(f'error: {error}')
    except (OSError, ValueError) as error:
        parser.error(f'--out {args.out} cannot be written: {error}')
    print(f'Wrote {args.out}')


if __name__ == '__main__':
    main()
