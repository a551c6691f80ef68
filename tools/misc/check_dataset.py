"""Read every annotation and image that a config names: exit status 1 and a line for each fault."""

import argparse
from functools import partial

SPLITS = ('train', 'val', 'test')


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('--splits', nargs='+', choices=SPLITS, default=SPLITS[:2])
    parser.add_argument('--annotations-only', action='store_true', help='open no image')
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Print the faults and return the exit status."""
    from acon_mm.apis.config import load_config
    from acon_mm.engine.data_check import check_data
    from acon_mm.engine.dataset_check import dataset_faults, fault_lines
    from acon_mm.progress import track

    cfg = load_config(arguments.config)
    check_data(cfg, tuple(arguments.splits))
    show = partial(track, description='Reading')
    faults = list(
        dataset_faults(
            cfg, arguments.splits, read_images=not arguments.annotations_only, track=show
        )
    )
    for line in fault_lines(faults):
        print(line)
    is_fatal = any(fault.is_fatal for fault in faults)
    print('faults that stop a run' if is_fatal else 'nothing that stops a run')
    return int(is_fatal)


if __name__ == '__main__':
    parsed = build_parser().parse_args()
    # Takes seconds, which --help should not.
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        raise SystemExit(main(parsed))
