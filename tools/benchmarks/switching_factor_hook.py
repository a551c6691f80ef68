"""Measure what acon_mm.SwitchingFactorHook adds to a training with the data of a config.

Every second step of a short training is looked at. Printed are the medians of both kinds of steps,
and what the difference is of a step when the hook looks at its default interval.
"""

import argparse
import inspect
import statistics
import tempfile
import time
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from acon_mm.apis.cli import read_options
from acon_mm.apis.config import build_runner, load_config
from acon_mm.engine.hooks import SwitchingFactorHook
from acon_mm.errors import report_user_errors


class Clock(Hook):
    """Note the seconds of each iteration, all other hooks included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last = 0.0

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('config', help='name of a config file with Meta-ACON')
    parser.add_argument('--steps', type=int, default=60)
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE')
    args = parser.parse_args()
    clock = Clock()
    with report_user_errors(), tempfile.TemporaryDirectory() as folder:
        cfg = load_config(args.config, read_options(args.cfg_options), folder)
        batch = cfg.train_dataloader.batch_size
        cfg.train_dataloader.dataset.indices = args.steps * batch
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
        cfg.update(dict.fromkeys(('val_cfg', 'val_dataloader', 'val_evaluator')))
        cfg.param_scheduler = []
        cfg.default_hooks.checkpoint = None
        cfg.default_hooks.pop('preemption', None)
        cfg.model.backbone.init_cfg = None
        cfg.log_level = 'ERROR'
        cfg.custom_hooks = [dict(type='acon_mm.SwitchingFactorHook', interval=2)]
        runner = build_runner(cfg)
        runner.register_hook(clock, priority='LOWEST')
        runner.train()
    # The first steps allocate memory.
    plain, watched = (statistics.median(clock.seconds[n::2]) for n in (10, 11))
    interval = inspect.signature(SwitchingFactorHook).parameters['interval'].default
    cost = (watched - plain) / interval / plain
    print(f'{1e3 * plain:.0f} ms a step, {1e3 * watched:.0f} ms with a look:')
    print(f'{cost:.2%} of a step at the default interval of {interval}')


if __name__ == '__main__':
    main()
