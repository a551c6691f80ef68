"""Make DigitScenes: handwritten digits on photographs, made from what scikit-learn ships.

The folder holds ``images`` with ``annotations`` (COCO), ``leftImg8bit`` with ``gtFine``
(Cityscapes) and ``imagenet`` (crops of one digit, one folder per class).
"""

import argparse

# Defaults and help. A test compares the defaults with those of acon_mm.datasets.BuildOptions.
# Its import takes seconds, which --help should not.
OPTIONS = {
    'num_train': (800, 'number of training scenes'),
    'num_val': (200, 'number of validation scenes'),
    'num_train_crops': (6000, 'number of training crops with one digit each'),
    'num_val_crops': (500, 'number of validation crops with one digit each'),
    'image_size': (160, 'side of a scene in pixels'),
    'crop_size': (48, 'side of a crop in pixels'),
    'seed': (0, 'seed of everything random'),
}


def main() -> None:
    """Build the folder; on a bad value say so in one sentence and exit with status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--out', default='data/digit_scenes', help='folder to make')
    for name, (default, text) in OPTIONS.items():
        parser.add_argument(f'--{name.replace("_", "-")}', type=int, default=default, help=text)
    parser.add_argument(
        '--overwrite', action='store_true', help='replace scenes made with other options'
    )
    values = vars(parser.parse_args())
    out, overwrite = values.pop('out'), values.pop('overwrite')
    from acon_mm.datasets import BuildOptions, build_digit_scenes

    try:
        build_digit_scenes(out, BuildOptions(**values), overwrite)
    except (ValueError, OSError) as error:
        parser.exit(1, f'{parser.prog}: {error}\n')


if __name__ == '__main__':
    main()
