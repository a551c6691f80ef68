"""Draw the curves of ACON-C and its derivative, those of the paper or of a trained network.

plot_activations.py                                    Figures 3 and 4 of the paper
plot_activations.py --model CONFIG CHECKPOINT          a trained network with ACON-C
plot_activations.py --model CONFIG CHECKPOINT --image PICTURE       one with Meta-ACON
"""

import argparse


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='draw channels of this network with the learnt p1, p2 and beta, and their bounds',
    )
    parser.add_argument(
        '--layers',
        nargs='+',
        metavar='NAME',
        help='with --model: layers by the ends of their names (default: first, middle and last)',
    )
    parser.add_argument('--image', help='with --model: the picture that Meta-ACON sees')
    parser.add_argument(
        '--out', default='acon_curves.png', help='the image, PNG, SVG or PDF by its name'
    )
    parser.add_argument('--dpi', type=int, default=110, help='pixels per inch')
    return parser


def main(args: argparse.Namespace) -> None:
    """Draw and write the picture."""
    from acon_mm.analysis.curves import draw_curves, draw_learnt_curves
    from acon_mm.analysis.figures import save_figure

    if args.model is None:
        figure = draw_curves()
    else:
        from acon_mm.analysis.factors import record_layers
        from acon_mm.apis import get_model

        figure = draw_learnt_curves(record_layers(get_model(*args.model), args.layers, args.image))
    print(f'Wrote {save_figure(figure, args.out, args.dpi)}')


if __name__ == '__main__':
    arguments = build_parser().parse_args()
    # Takes seconds, which --help should not.
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        main(arguments)
