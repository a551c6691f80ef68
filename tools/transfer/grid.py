"""A transfer grid: its steps, what affects their results, and where the results are.

A row of the grid is an activation, a column a task: a classifier, a detector or a segmentor. For
each seed, a task is trained and then tested. The README describes the config.
"""

import ast
import contextlib
import hashlib
import json
from collections.abc import Mapping
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


class Grid:
    """The steps of a grid: 'prepare', and a 'train' and a 'test' of each row, seed and task."""

    def __init__(self, config: Mapping) -> None:
        config = _typed(config)
        self.root = Path(config['work_dir'])
        self.prepare = config.get('prepare')
        self.activations = config['activations']
        self.tasks = config['tasks']
        self.rows = config.get('rows') or list(self.activations)
        for row in self.rows:
            if row not in self.activations:
                known = ', '.join(self.activations)
                raise UserError(f'rows names {row!r}, which is unknown; use some of {known}')
        baselines = [row for row in config.get('baselines', ()) if row in self.rows]
        self.baselines = baselines or self.rows[:1]
        self.seeds = config['seeds']
        self.gpus = config.get('gpus') or 0
        self._options = config.get('options') or {}
        self._settings: dict[tuple, dict] = {}

    def path(self, kind: str, row: str = '', seed: int | str = '', task: str = '') -> Path:
        """Return the result file of a step; its work dir has the same name without the ending."""
        if kind == 'prepare':
            return self.root / 'prepare.json'
        return self.root / row / f'seed{seed}' / f'{task}{"_test" * (kind == "test")}.json'

    def before(self, kind: str, row: str, seed: int | str, task: str) -> tuple | None:
        """Return the training whose checkpoint a step starts from, None if there is none."""
        task = task if kind == 'test' else self.tasks[task].get('after')
        return ('train', row, seed, task) if task else None

    def inputs(self, kind: str, *step: int | str) -> list[str]:
        """Return the result files of the steps that have to end before a step."""
        before = self.before(kind, *step)
        steps = [('prepare',)] * bool(self.prepare) + [before] * bool(before)
        return [str(self.path(*found)) for found in steps]

    def load(self, row: str, seed: int | str, task: str) -> Config:
        """Return the config of a task with all options.

        Instead of the checkpoint of another task, its ``init_cfg`` has the name of that task.
        """
        activation, column = self.activations[row], self.tasks[task]
        options = {**self._options, **column.get('options', {}), **activation.get('options', {})}
        if 'randomness.seed' in options:
            raise UserError("options names 'randomness.seed', which is the grid's; give seeds")
        path = column['config'].format(activation=activation.get('config', row))
        cfg = load_config(path, {**options, 'randomness.seed': int(seed)}, self.root)
        if 'act_cfg' in activation:
            changes, backbone = activation['act_cfg'], cfg.model.backbone
            old = {} if 'type' in changes else backbone.get('act_cfg', {})
            backbone.act_cfg = {**old, **changes}
        if 'after' in column:
            start_from(cfg, column['after'])
        saving = cfg.get('default_hooks', {}).get('checkpoint', {})
        if saving.get('max_keep_ckpts') == 1:
            # mmengine removes it before it writes the next; an interrupt then would leave none.
            saving.max_keep_ckpts = 2
        return cfg

    def settings(self, kind: str, row: str, seed: int | str, task: str) -> dict:
        """Return what decides the outcome of a step: parts of its config, and those before it."""
        key = (kind, row, int(seed), task)
        if key not in self._settings:
            before = self.before(*key)
            text = before and json.dumps(self.settings(*before), sort_keys=True)
            cfg = self.load(row, seed, task)
            self._settings[key] = {
                # As a result file returns them.
                **{k: json.loads(json.dumps(cfg.get(k), default=str)) for k in PARTS[kind]},
                'processes': self.gpus or 1,
                'after': before and hashlib.sha256(text.encode()).hexdigest()[:12],
            }
        return self._settings[key]

    def runs(self, kind: str, *step: int | str) -> dict:
        """Return the names of the very runs that a step starts from."""
        return {Path(p).stem: (read_json(p) or {}).get('run') for p in self.inputs(kind, *step)}

    def result(self, kind: str, *step: int | str) -> dict | None:
        """Return what a step left, None unless it is of these settings and of the present runs."""
        before = self.before(kind, *step)
        if before and not self.result(*before):
            return None
        found = read_json(self.path(kind, *step))
        wanted = {**self.settings(kind, *step), 'runs': self.runs(kind, *step)}
        return found if found and found['settings'] == wanted else None


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


def _typed(value: object) -> object:
    """Read the values in strings: YAML takes 2e-3 for one, and ``--config`` all nested values."""
    if isinstance(value, Mapping):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(value) if isinstance(value, str) else value
    return value
