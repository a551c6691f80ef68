"""tools/transfer.sh on a grid of toy trainings: interrupted, gone on with, and changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]


class Script:
    """The script in a folder with stand-ins for train.py and test.py."""

    def __init__(self, root):
        shutil.copytree(ROOT / 'tools' / 'transfer', root / 'tools' / 'transfer')
        shutil.copy(ROOT / 'tools' / 'transfer.sh', root / 'tools')
        self.root = root

    def start(self, *arguments):
        return subprocess.Popen(
            ['bash', 'tools/transfer.sh', 'acon', '--configfile', 'grid.yaml', *arguments],
            cwd=self.root,
            env={**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHON': sys.executable},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments):
        process = self.start(*arguments)
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text
        return text

    def would_run(self, *arguments):
        """Return the rules and wildcards that a dry run lists."""
        lines = self.run('-n', *arguments).splitlines()
        rules = [line[5:-1] for line in lines if line.startswith(('rule train', 'rule test'))]
        steps = [line.partition(': ')[2] for line in lines if 'wildcards: ' in line]
        return sorted(f'{rule}: {step}' for rule, step in zip(rules, steps, strict=True))

    def result(self, name):
        return json.loads((self.root / f'runs/acon/seed0/{name}.json').read_text())


@pytest.fixture(scope='module')
def finished(tmp_path_factory, write_project):
    """A grid that was interrupted in the training of its detector and has gone on to its end."""
    script = Script(write_project(tmp_path_factory.mktemp('grid')))
    hold = script.root / 'hold'
    hold.write_text('')
    process = script.start()
    try:
        while not hold.read_text():
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.1)
        script.training = int(hold.read_text())
        process.terminate()
        process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    hold.unlink()
    script.said = script.run()
    return script


def test_an_interrupt_ends_the_training_and_the_same_command_goes_on_with_it(finished):
    with pytest.raises(ProcessLookupError):
        os.kill(finished.training, 0)
    assert finished.result('detect')['resumed']
    assert not finished.result('classify')['resumed']


def test_a_finished_grid_prints_its_tables(finished):
    assert '4 of 4 steps are finished' in finished.said
    assert '| ACON ' in finished.said


@pytest.mark.parametrize(
    ('change', 'steps'),
    [
        (
            'tasks={detect: {options: {train_cfg.max_epochs: 9}}}',
            ['test: detect', 'train: detect'],
        ),
        ('tasks={classify: {options: {test_dataloader.batch_size: 9}}}', ['test: classify']),
    ],
)
def test_a_changed_option_reruns_what_depends_on_it_and_nothing_else(finished, change, steps):
    expected = [step.replace(': ', ': row=acon, seed=0, task=') for step in steps]
    assert finished.would_run('--config', change) == expected


def test_newer_files_of_code_or_config_rerun_nothing(finished):
    """What they say counts, not when they were written."""
    for path in (finished.root / 'toy.py', *finished.root.glob('tools/**/*.py')):
        os.utime(path)
    assert finished.would_run() == []


def test_without_an_activation_the_script_says_how_to_use_it():
    command = ['bash', str(ROOT / 'tools' / 'transfer.sh')]
    for arguments in ([], ['-n']):
        run = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert (run.returncode, run.stdout) == (2, '')
        assert run.stderr.startswith('usage:')


@pytest.mark.parametrize(
    ('arguments', 'config'),
    [
        ([], 'rows=[relu] seeds=[0]'),
        (['2', '-n'], 'rows=[relu] seeds=[0] gpus=2'),
        (['2', '--config', 'seeds=[5]'], 'rows=[relu] seeds=[0] gpus=2 seeds=[5]'),
    ],
)
def test_the_scripts_settings_are_the_first_of_the_config_that_snakemake_takes(
    arguments, config, tmp_path, monkeypatch
):
    """Of several ``--config`` it takes the last, and of a key in it the last value."""
    python = tmp_path / 'python'
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv('PYTHON', str(python))
    command = ['bash', str(ROOT / 'tools' / 'transfer.sh'), 'relu', *arguments]
    words = subprocess.run(command, capture_output=True, text=True).stdout.split()
    last = len(words) - words[::-1].index('--config')
    taken = [word for word in words[last:] if not word.startswith('-')]
    assert taken == config.split()


def example():
    """Return the config that the README shows for a data set of one's own."""
    text = (ROOT / 'tools' / 'transfer' / 'README.md').read_text()
    return yaml.safe_load(text.partition('```yaml\n')[2].partition('```')[0])


@pytest.mark.slow
def test_the_readmes_example_runs_on_digits_with_a_detector_after_it(digit_scenes, tmp_path):
    """A classifier, and a detector that starts from it."""
    root, annotations = str(digit_scenes), f'{digit_scenes}/annotations/instances_val.json'
    roots = {f'{name}_dataloader.dataset.data_root': root for name in ('train', 'val', 'test')}
    crops = dict.fromkeys(roots, f'{root}/imagenet')
    short = {'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 5}
    config = example()
    (task,) = config['tasks'].values()
    task['options'] = {**crops, **short}
    annotated = {f'{name}_evaluator.ann_file': annotations for name in ('val', 'test')}
    config['tasks'] |= {
        'detect': {
            'config': 'configs/detection/retinanet_r18_relu_digits.py',
            'after': next(iter(config['tasks'])),
            'metrics': ['box AP'],
            'options': {**roots, **annotated, **short},
        },
    }
    config['work_dir'] = 'runs'
    (tmp_path / 'grid.yaml').write_text(yaml.safe_dump(config))
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    command = [sys.executable, '-m', 'snakemake', '-s', str(ROOT / 'tools/transfer/Snakefile')]
    command += ['--cores', 'all', '--configfile', 'grid.yaml', '--config', 'rows=[metaacon]']
    run = subprocess.run(
        [*command, 'seeds=[0]'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert '4 of 4 steps are finished' in run.stdout, run.stdout + run.stderr
    assert '| Meta-ACON |' in run.stdout
