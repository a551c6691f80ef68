"""Whether the schedule of the learning rate and the training end together."""

from collections.abc import Iterator

from mmengine.config import Config

from acon_mm.registry import type_name


def schedule_gaps(cfg: Config) -> Iterator[str]:
    """Yield a line for each group of schedules that ends before or after the training does.

    A config that inherits another and changes ``train_cfg.max_epochs`` keeps its schedule. Those
    without an ``end`` last as long as the training, and warm-ups are left out.

    Args:
        cfg: The config of the run.
    """
    unit = 'max_epochs' if cfg.train_cfg.get('max_epochs') else 'max_iters'
    total = cfg.train_cfg.get(unit)
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, list) or 'type' in schedulers:
        groups = {'param_scheduler': schedulers}
    else:  # of several optimizers
        groups = {f'param_scheduler.{name}': group for name, group in schedulers.items()}
    for key, group in groups.items():
        ends = [
            _end(scheduler, total)
            for scheduler in (group if isinstance(group, list) else [group])
            if scheduler.get('by_epoch', True) == (unit == 'max_epochs')
            and not _is_warm_up(scheduler)
        ]
        if total and ends and max(ends) != total:
            yield (
                f'{key} ends at {max(ends)} and train_cfg.{unit} is {total}: the learning rate '
                'does not follow; change end, T_max and milestones too, or leave out end and T_max'
            )


def _end(scheduler: dict, total: int) -> int:
    if scheduler.get('end') is None and scheduler.get('T_max'):
        return scheduler.get('begin', 0) + scheduler['T_max']
    return scheduler.get('end') or total


def _is_warm_up(scheduler: dict) -> bool:
    kind, end_factor = type_name(scheduler.get('type')), scheduler.get('end_factor', 1.0)
    starts = not scheduler.get('begin', 0)
    return kind in ('ConstantLR', 'LinearLR') and starts and end_factor == 1.0
