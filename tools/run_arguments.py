"""The flags that train.py and test.py share."""

import argparse


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser; they are named as in mmdet."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='change values of the config, as in train_cfg.max_epochs=1 or key="[a,b]"',
    )
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='load a checkpoint that fits the model only in part',
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='what started the processes',
    )
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
