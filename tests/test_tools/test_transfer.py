"""tools/transfer.sh and transfer_table.py: what they run, and one real chain in small."""

import importlib.util
import json
import subprocess
import sys

import pytest

from acon_mm.analysis.transfer_grid import run_grid
from acon_mm.analysis.transfer_plan import PRESETS, Preset, activation_variants, plan_chain
from acon_mm.analysis.transfer_steps import execute_command

TABLE = 'analysis_tools/transfer_table.py'


@pytest.fixture
def started(repo_root, tmp_path, monkeypatch):
    """Run transfer.sh with a stand-in for Python that prints where it is and what it gets."""
    python = tmp_path / 'python'
    python.write_text('#!/bin/bash\npwd\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv('PYTHON', str(python))

    def run(*arguments):
        command = ['bash', str(repo_root / 'tools' / 'transfer.sh'), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    return run


@pytest.mark.parametrize(
    ('arguments', 'passed'),
    [
        (['relu'], []),
        (['relu', '2'], ['--gpus', '2']),
        (['relu', '--preset', 'paper'], ['--preset', 'paper']),
        (['relu', '8', '--seeds', '4', '5'], ['--gpus', '8', '--seeds', '4', '5']),
    ],
)
def test_the_script_starts_the_grid_of_one_activation(started, repo_root, arguments, passed):
    folder, script, *rest = started(*arguments).stdout.splitlines()
    assert (folder, script) == (str(repo_root), f'tools/{TABLE}')
    assert rest == ['--activations', 'relu', '--seeds', '0', *passed]


@pytest.mark.parametrize('arguments', [[], ['--preset', 'paper']])
def test_without_an_activation_the_script_says_how_to_use_it(started, arguments):
    run = started(*arguments)
    assert run.returncode == 2
    assert run.stderr.startswith('usage:')
    assert 'ACTIVATION [GPUS] [arguments of transfer_table.py]' in run.stderr
    assert run.stdout == ''


@pytest.fixture
def transfer_table(repo_root, tmp_path, monkeypatch):
    """Run transfer_table.py in an empty folder, without the seconds that a process takes."""
    spec = importlib.util.spec_from_file_location('transfer_table', repo_root / 'tools' / TABLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.signal, 'signal', lambda *_: None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [TABLE, *map(str, arguments)])
        module.main()

    return run


def test_a_dry_run_prints_every_command_and_makes_nothing(transfer_table, tmp_path, capsys):
    transfer_table('--dry-run', '--ablation', '--seeds', '5', '6')
    *_, last = lines = capsys.readouterr().out.splitlines()
    assert last == '# 48 steps'
    commands = [line for line in lines if not line.startswith('#')]
    assert len(commands) == 48
    assert sum('randomness.seed=6' in line for line in commands) == 24
    assert sum('model.backbone.act_cfg.init=paper' in line for line in commands) == 12
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_zero_prints_the_tables_of_what_is_there_and_fills_a_file(
    transfer_table, tmp_path, capsys
):
    report = tmp_path / 'report.md'
    report.write_text('# Before\n\n<!-- transfer digits -->\n<!-- end of transfer digits -->\n')
    transfer_table('--limit-minutes', '0', '--out', report)
    printed = capsys.readouterr().out
    assert 'No step starts after 0 min: 54 steps are left' in printed
    for text in (printed, report.read_text()):
        assert 'Table 9 in small' in text
        assert '0 of 54 steps are finished' in text
    assert report.read_text().startswith('# Before\n')


def test_json_stands_alone_on_the_standard_output(transfer_table, capsys):
    transfer_table('--limit-minutes', '0', '--format', 'json')
    assert set(json.loads(capsys.readouterr().out)) == {
        'classification',
        'detection',
        'segmentation',
    }


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--activations', 'mish'], "error: activations names 'mish'"),
        (['--gpus', '0'], 'error: --gpus must be 1 or more, but it is 0'),
        (['--baseline', 'mish'], "error: baseline 'mish' is none of the rows"),
        (['--out', 'none.md'], 'error: none.md is no file'),
    ],
)
def test_the_table_refuses_in_a_sentence(transfer_table, arguments, message):
    with pytest.raises(SystemExit) as end:
        transfer_table(*arguments)
    assert end.value.code.startswith(message)


def tiny(digit_scenes):
    """Return the digits preset with a few small images and iterations."""
    splits = ('train', 'val', 'test')
    roots = {f'{split}_dataloader.dataset.data_root': str(digit_scenes) for split in splits}
    crops = {key: f'{root}/imagenet' for key, root in roots.items()}
    annotations = str(digit_scenes / 'annotations' / 'instances_val.json')
    short = {
        'train_dataloader.batch_size': 5,
        'train_cfg.max_epochs': 2,
        'param_scheduler.1.end': 2,
        'param_scheduler.1.T_max': 2,
    }
    digits = PRESETS['digits']
    options = {
        'classification': {**short, **crops},
        'detection': {
            **short,
            **roots,
            'val_evaluator.ann_file': annotations,
            'test_evaluator.ann_file': annotations,
        },
        'segmentation': {
            'train_cfg.max_iters': 6,
            'param_scheduler.1.end': 6,
            'default_hooks.checkpoint.interval': 2,
            'train_dataloader.batch_size': 4,
            'model.data_preprocessor.size': (96, 96),  # that of the images: nothing is padded
            **roots,
        },
    }
    merged = {task: {**digits.options[task], **options[task]} for task in options}
    return Preset('tiny', digits.configs, digits.placement, digits.init, merged)


@pytest.mark.slow
def test_a_real_chain_is_killed_in_each_training_goes_on_and_leaves_its_summary(
    digit_scenes, tmp_path, repo_root, monkeypatch
):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    preset = tiny(digit_scenes)
    (variant,) = activation_variants(['metaacon'])
    chain = plan_chain(preset, variant, 7, tmp_path)
    trained = []

    def kill_first(command, environment, log):
        """Let a training stop at a checkpoint that is not its last one, then fail."""
        first = log.parent.name not in trained and 'train.py' in command[1]
        if not first:
            return execute_command(command, environment, log)
        trained.append(log.parent.name)
        early = [
            'train_cfg.max_iters=4'
            if log.parent.name == 'segmentation'
            else 'train_cfg.max_epochs=1'
        ]
        execute_command([*command, *early], environment, log)
        raise KeyboardInterrupt

    for _ in range(4):
        try:
            run_grid(preset, [chain], tmp_path, repo_root / 'tools', execute=kill_first)
        except KeyboardInterrupt:
            continue
    assert trained == ['pretrain', 'detection', 'segmentation']
    summary = json.loads((chain.folder / 'summary.json').read_text())
    assert summary['resumed']
    assert summary['checkpoints'] == {
        'classification': 'pretrain/epoch_2.pth',
        'detection': 'detection/epoch_2.pth',
        'segmentation': 'segmentation/iter_6.pth',
    }
    assert set(summary['metrics']['detection']) >= {'box AP', 'box AP@50', 'box AP@75'}
    assert 0 <= summary['metrics']['segmentation']['mIoU'] <= 100
    logs = {name: (chain.folder / name / 'log.txt').read_text() for name in trained}
    assert 'resumed epoch: 1, iter: 8' in logs['pretrain']
    assert 'resumed epoch: 1, iter: 4' in logs['detection']
    assert 'resumed epoch: 0, iter: 4' in logs['segmentation']
    source = str(chain.folder / 'pretrain' / 'epoch_2.pth')
    assert source in logs['detection']
    assert source in logs['segmentation']
