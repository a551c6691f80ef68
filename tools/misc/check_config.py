"""Check a config without building anything: exit status 1 and a line for each fault."""

import argparse


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='change values of the config, as in train_cfg.max_epochs=1',
    )
    return parser


if __name__ == '__main__':
    arguments = build_parser().parse_args()
    # Takes seconds, which --help should not.
    from acon_mm.apis.cli import read_options
    from acon_mm.apis.config import load_checked_config
    from acon_mm.errors import report_user_errors

    with report_user_errors():
        options = read_options(arguments.cfg_options)
        load_checked_config(arguments.config, options, arguments.work_dir)
    print(f'{arguments.config}: no faults')
