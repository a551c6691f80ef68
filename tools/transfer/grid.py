"""A transfer grid: what its steps are, what decides their outcome and where their results lie.

A row of the grid is an activation, a column a task: a classifier, a detector or a segmentor. For
each seed, a task is trained and then tested. The README lists the keys of the grid's config.
"""

import ast
import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmengine.config import Config

from acon_mm.apis.config import load_config
from acon_mm.errors import UserError

# The parts of a config that decide what comes out. Others say what is logged, saved and drawn.
PARTS = {
    'train': (
        *('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'),
        *('custom_hooks', 'auto_scale_lr', 'randomness'),
    ),
    'test': ('model', 'test_dataloader', 'test_evaluator', 'test_cfg'),
}
# The grid sets them itself.
_OWN = {'randomness.seed': 'seeds', 'work_dir': 'work_dir', 'resume': 'no option'}


class Grid:
    """The steps of a grid.

    Args:
        config: The grid's config, as the README of this folder describes it.

    Raises:
        UserError: If a row or a task is named that the config does not have.
    """

    def __init__(self, config: Mapping) -> None:
        config = _typed(config)
        self.root = Path(config['work_dir'])
        self.prepare = config.get('prepare')
        self.activations = config['activations']
        self.tasks = config['tasks']
        self.rows = config.get('rows') or list(self.activations)
        self.baselines = [row for row in config.get('baselines', ()) if row in self.rows]
        self.baselines = self.baselines or self.rows[:1]
        self.seeds = config['seeds']
        self.gpus = config.get('gpus') or 0
        self._options = config.get('options') or {}
        self._settings: dict[tuple, dict] = {}
        _check_names('rows', self.rows, self.activations)
        after = [task['after'] for task in self.tasks.values() if 'after' in task]
        _check_names('after', after, self.tasks)

    def path(self, kind: str, row: str = '', seed: int | str = '', task: str = '') -> Path:
        """Return the result file of a step; its work dir has the same name without the ending."""
        if kind == 'prepare':
            return self.root / 'prepare.json'
        ending = '_test' if kind == 'test' else ''
        return self.root / row / f'seed{seed}' / f'{task}{ending}.json'

    def targets(self) -> list[str]:
        """Return the result files of all tests."""
        return [
            str(self.path('test', row, seed, task))
            for seed in self.seeds
            for row in self.rows
            for task in self.tasks
        ]

    def inputs(self, kind: str, row: str, seed: int | str, task: str) -> list[str]:
        """Return the result files of the steps that a step starts from."""
        before = task if kind == 'test' else self.tasks[task].get('after')
        found = [self.path('train', row, seed, before)] if before else []
        return list(map(str, [self.path('prepare'), *found] if self.prepare else found))

    def load(self, row: str, seed: int | str, task: str) -> Config:
        """Return the config of a task with all options.

        Where the task starts from another, the name of that one stands for its checkpoint.

        Raises:
            UserError: If the config cannot be read, or an option does not fit it.
        """
        activation, column = self.activations[row], self.tasks[task]
        options = {
            **self._options,
            **column.get('options', {}),
            **activation.get('options', {}),
        }
        for key in _OWN.keys() & options.keys():
            raise UserError(f'options names {key!r}, which the grid sets; use {_OWN[key]} instead')
        path = column['config'].format(activation=activation.get('config', row))
        cfg = load_config(path, {**options, 'randomness.seed': int(seed)}, self.root)
        if 'act_cfg' in activation:
            changes, backbone = activation['act_cfg'], cfg.model.backbone
            old = {} if 'type' in changes else backbone.get('act_cfg', {})
            backbone.act_cfg = {**old, **changes}
        if 'after' in column:
            start_from(cfg, column['after'])
        return cfg

    def settings(self, kind: str, row: str, seed: int | str, task: str) -> dict:
        """Return what decides the outcome of a step.

        Returns:
            The parts of its config, the number of processes, and a digest of the settings of the
            step before it.

        Raises:
            UserError: If the config cannot be read, or an option does not fit it.
        """
        key = (kind, row, int(seed), task)
        if key not in self._settings:
            before = task if kind == 'test' else self.tasks[task].get('after')
            self._settings[key] = {
                **parts_of(self.load(row, seed, task), kind),
                'processes': self.gpus or 1,
                'after': before and _digest(self.settings('train', row, seed, before)),
            }
        return self._settings[key]

    def result(self, kind: str, row: str, seed: int | str, task: str) -> dict | None:
        """Return what a step left.

        Returns:
            The content of its result file. None if it has not ended, or ended with other settings
            than those of now, or has to run again because a step before it has.
        """
        found = read_json(self.path(kind, row, seed, task))
        before = task if kind == 'test' else self.tasks[task].get('after')
        if before and self.result('train', row, seed, before) is None:
            return None
        started = {path: read_json(path) or {} for path in self.inputs(kind, row, seed, task)}
        wanted = {**self.settings(kind, row, seed, task), 'runs': runs_of(started)}
        return found if found and found['settings'] == wanted else None


def parts_of(cfg: Config, kind: str) -> dict:
    """Return the parts of a config that decide what a step gives, as JSON would return them."""
    return {
        part: json.loads(json.dumps(cfg.get(part), default=str, sort_keys=True))
        for part in PARTS[kind]
    }


def runs_of(results: Mapping[str, Mapping]) -> dict:
    """Return the names of the very runs that left some result files."""
    return {Path(path).stem: result.get('run') for path, result in results.items()}


def start_from(cfg: Config, checkpoint: str) -> None:
    """Let the backbone of a config start from that of a classifier."""
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', prefix='backbone.', checkpoint=checkpoint
    )


def read_json(path: str | Path) -> dict | None:
    """Return the object in a file, None if there is no such file or it is not whole."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(Path(path).read_text(encoding='utf-8'))
    return None


def _check_names(key: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f'{key} names {name!r}, which is unknown; use {", ".join(known)}')


def _digest(settings: Mapping) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def _typed(value: object) -> object:
    """Read numbers in strings: YAML takes 2e-3 for one, snakemake --config all nested values."""
    if isinstance(value, Mapping):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError):
            return ast.literal_eval(value)
    return value
