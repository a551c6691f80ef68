"""What is compared differs in the activation alone, and settings are what decides the outcome."""

from pathlib import Path

import pytest
import yaml
from grid import Grid

from acon_mm.errors import UserError

CONFIGS = Path(__file__).parents[3] / 'tools' / 'transfer' / 'config'


def shipped(*names, **changes):
    config = {}
    for name in names:
        found = yaml.safe_load((CONFIGS / f'{name}.yaml').read_text())
        both = {**config.get('activations', {}), **found['activations']}
        config |= found | {'activations': both}
    return Grid(config | changes)


def flat(value, prefix=''):
    if isinstance(value, dict) and value:
        return {k: v for key in value for k, v in flat(value[key], f'{prefix}.{key}').items()}
    return {prefix: value}


def differing(grid, row, other, task):
    """Return in what the settings of two rows differ, besides the steps before."""
    one, two = (flat(grid.settings('train', name, 0, task)) for name in (row, other))
    keys = {key for key in one | two if one.get(key, '?') != two.get(key, '?')}
    return keys - {'.after'}


@pytest.mark.parametrize('task', ['pretrain', 'detect', 'segment'])
@pytest.mark.parametrize('name', ['digits', 'paper'])
def test_the_rows_of_a_shipped_grid_differ_in_the_activation_alone(
    name, task, repo_root, monkeypatch
):
    monkeypatch.chdir(repo_root)
    grid = shipped(name)
    for other in ('swish', 'metaacon'):
        keys = differing(grid, 'relu', other, task)
        assert keys
        assert all(key.startswith('.model.backbone.act_cfg') for key in keys), keys


def test_each_row_of_the_ablation_changes_one_thing(repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)
    grid = shipped('digits', 'digits_ablation')
    changed = {'init_paper': 'act_cfg.init', 'no_norm': 'act_cfg.norm_cfg'}
    changed['placement_one'] = 'placement'
    assert grid.rows == ['metaacon', *(f'metaacon_{name}' for name in changed)]
    for name, key in changed.items():
        for task in grid.tasks:
            keys = differing(grid, 'metaacon', f'metaacon_{name}', task)
            assert keys
            assert all(k.startswith(f'.model.backbone.{key}') for k in keys), keys


def test_an_act_cfg_with_a_type_replaces_that_of_the_config_and_one_without_changes_it(
    project, make_grid
):
    rows = {'a': {'act_cfg': {'type': 'Acon'}}, 'b': {'act_cfg': {'slope': 1}}}
    grid = make_grid(activations=rows)
    assert grid.load('a', 0, 'classify').model.backbone.act_cfg == {'type': 'Acon'}
    assert grid.load('b', 0, 'classify').model.backbone.act_cfg == {'type': 'ReLU', 'slope': 1}


def test_an_options_number_may_be_written_as_people_do(project, make_grid):
    """YAML takes 2e-3 for a string, and ``snakemake --config`` all nested values."""
    options = {'a.lr': '2e-3', 'a.epochs': '3', 'a.name': 'one', 'a.norm': 'None', 'a.x': '[1, 2]'}
    assert make_grid(options=options).load('relu', 0, 'classify').a == {
        **{'lr': 2e-3, 'epochs': 3, 'name': 'one', 'norm': None, 'x': [1, 2]},
    }


def test_two_checkpoints_are_saved_for_an_interrupt_may_meet_one_half_written(project, make_grid):
    cfg = make_grid().load('relu', 0, 'classify')
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 2


@pytest.mark.parametrize(
    ('changes', 'affected'),
    [
        ({'options': {'train_cfg.max_epochs': 9}}, 'train classify, test classify, train detect'),
        ({'options': {'test_dataloader.batch_size': 9}}, 'test classify'),
        ({'options': {'default_hooks.logger.interval': 9}}, ''),
        ({'gpus': 2}, 'train classify, test classify, train detect'),
    ],
)
def test_settings_change_with_what_decides_the_outcome_and_with_that_of_the_step_before(
    changes, affected, project, make_grid
):
    steps = [('train', 'classify'), ('test', 'classify'), ('train', 'detect')]
    differ = [
        f'{kind} {task}'
        for kind, task in steps
        if make_grid().settings(kind, 'acon', 0, task)
        != make_grid(**changes).settings(kind, 'acon', 0, task)
    ]
    assert ', '.join(differ) == affected


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'rows': ['mish']}, "rows names 'mish', which is unknown; use some of relu, acon"),
        ({'options': {'randomness.seed': 3}}, "options names 'randomness.seed'.*give seeds"),
    ],
)
def test_a_wrong_config_is_refused_in_a_sentence(changes, message, project, make_grid):
    with pytest.raises(UserError, match=message):
        make_grid(**changes).load('relu', 0, 'classify')
