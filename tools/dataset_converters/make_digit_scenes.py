"""Make DigitScenes: handwritten digits on photographs, made from what scikit-learn ships.

The folder holds ``images`` with ``annotations`` (COCO), ``leftImg8bit`` with ``gtFine``
(Cityscapes) and ``imagenet`` (crops of one digit, one folder per class).
"""

import argparse
from dataclasses import fields

from acon_mm.datasets import BuildOptions, build_digit_scenes

HELP = {
    'num_train': 'number of training scenes',
    'num_val': 'number of validation scenes',
    'num_train_crops': 'number of training crops with one digit each',
    'num_val_crops': 'number of validation crops with one digit each',
    'image_size': 'side of a scene in pixels',
    'crop_size': 'side of a crop in pixels',
    'seed': 'seed of everything random',
}


def main() -> None:
    """Build the folder; on a bad value say so in one sentence and exit with status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--out', default='data/digit_scenes', help='folder to make')
    for field in fields(BuildOptions):
        flag = '--' + field.name.replace('_', '-')
        parser.add_argument(flag, type=int, default=field.default, help=HELP[field.name])
    parser.add_argument(
        '--overwrite', action='store_true', help='replace scenes made with other options'
    )
    values = vars(parser.parse_args())
    out, overwrite = values.pop('out'), values.pop('overwrite')
    try:
        build_digit_scenes(out, BuildOptions(**values), overwrite)
    except (ValueError, OSError) as error:
        parser.exit(1, f'{parser.prog}: {error}\n')


if __name__ == '__main__':
    main()
