"""Draw the switching factors of a trained model for some pictures, layer by layer (Figure 5).

Writes distribution.png (one layer, a column for each picture), overview.png (all layers),
beta.csv (all numbers) and, for pixel-wise Meta-ACON, map_PICTURE.png.
"""

import argparse
from functools import partial


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='name of a model or path of a config: any of the tasks')
    parser.add_argument('checkpoint', help='path or URL of its checkpoint')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='pictures')
    parser.add_argument(
        '--compare',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a second model beside it, such as ACON-C beside Meta-ACON',
    )
    parser.add_argument(
        '--titles', nargs='+', metavar='TITLE', help='names of the models in the figures'
    )
    parser.add_argument(
        '--layer', help='the layer of distribution.png, by the end of its name (default: the last)'
    )
    parser.add_argument('--out', default='beta', metavar='DIR', help='folder for the results')
    parser.add_argument('--format', choices=('png', 'svg', 'pdf'), default='png')
    parser.add_argument('--device', default='cpu', help='where the models run, as in cuda:0')
    return parser


def main(args: argparse.Namespace) -> None:
    """Record the models and write figures and numbers."""
    from pathlib import Path

    from acon_mm.analysis.factor_figures import draw_distribution, draw_maps, draw_overview
    from acon_mm.analysis.factors import layer_of, record_pictures, write_table
    from acon_mm.analysis.figures import save_figure
    from acon_mm.apis import get_model
    from acon_mm.errors import UserError
    from acon_mm.progress import track

    models = [(args.config, args.checkpoint), *([args.compare] if args.compare else [])]
    titles = args.titles or [Path(config).stem for config, _ in models]
    if len(titles) != len(models) or len(set(titles)) != len(titles):
        raise UserError(f'titles {titles} must be {len(models)} different names, one for a model')
    recordings = []
    for (config, checkpoint), title in zip(models, titles, strict=True):
        model = get_model(config, checkpoint, args.device)
        show = partial(track, description=title)
        recordings.append(record_pictures(model, args.images, title, show))
    layers = [layer_of(recording, args.layer) for recording in recordings]
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    write_table(recordings, out / 'beta.csv')
    figures = {
        'distribution': draw_distribution(recordings, layers),
        'overview': draw_overview(recordings),
    }
    for number, recording in enumerate(recordings):
        for picture in recording.pictures if recording.has_maps() else ():
            name = f'map{number + 1 if number else ""}_{Path(picture).stem}'
            figures[name] = draw_maps(recording, picture)
    for name, figure in figures.items():
        print(f'Wrote {save_figure(figure, out / f"{name}.{args.format}")}')
    print(f'Wrote {out / "beta.csv"}')


if __name__ == '__main__':
    arguments = build_parser().parse_args()
    # Takes seconds, which --help should not.
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        main(arguments)
