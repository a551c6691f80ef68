"""Draw the truth and the predictions of several models, where they disagree first.

  compare_models.py --model ReLU CONFIG CHECKPOINT --model Meta-ACON CONFIG CHECKPOINT

The models are detectors, or segmentors. The pictures are the test data of the first config.
"""

import argparse
from functools import partial


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        required=True,
        metavar=('TITLE', 'CONFIG', 'CHECKPOINT'),
        help='a model and its name in the figure; give the option once for each',
    )
    parser.add_argument('--rows', type=int, default=4, help='how many pictures are drawn')
    parser.add_argument('--limit', type=int, metavar='N', help='look at the first N pictures only')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='lowest score of a box that counts'
    )
    parser.add_argument('--out', default='comparison.png', help='PNG, SVG or PDF by its name')
    parser.add_argument('--dpi', type=int, default=80, help='pixels per inch')
    parser.add_argument('--device', default='cpu', help='where the models run, as in cuda:0')
    return parser


def main(args: argparse.Namespace) -> None:
    """Compare the models and write the figure."""
    from acon_mm.analysis.comparison import compare_models, draw_comparison
    from acon_mm.analysis.figures import save_figure
    from acon_mm.apis import get_model
    from acon_mm.progress import track

    models = {t: get_model(config, path, args.device) for t, config, path in args.model}
    show = partial(track, description='Comparing')
    found = compare_models(models, args.limit, args.score_thr, show)[: args.rows]
    meta = next(iter(models.values())).dataset_meta
    figure = draw_comparison(found, meta['classes'], meta.get('palette'))
    print(f'Wrote {save_figure(figure, args.out, args.dpi)}')
    for item in found:
        print(f'{item.disagreement:6.1%} {item.path}')


if __name__ == '__main__':
    arguments = build_parser().parse_args()
    # Takes seconds, which --help should not.
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        main(arguments)
