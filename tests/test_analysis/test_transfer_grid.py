"""A grid runs what is missing, over several sessions, and says how far it is."""

import fcntl
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from acon_mm.analysis.transfer_grid import (
    StepTimes,
    describe_commit,
    dry_run,
    duration,
    run_grid,
    summarise,
)
from acon_mm.analysis.transfer_plan import PRESETS
from acon_mm.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from transfer_fake import FakeExecute, plan

DIGITS = PRESETS['digits']
TOOLS = Path(__file__).parents[2] / 'tools'


def run(root, execute, said=None, **kwargs):
    """Run a grid of two activations and two seeds, which has 24 steps."""
    say = (lambda line: None) if said is None else said.append
    return run_grid(DIGITS, plan(root), root, TOOLS, execute=execute, say=say, **kwargs)


def test_each_step_runs_once_in_the_order_of_seeds_and_the_data_is_made_first(tmp_path):
    execute = FakeExecute()
    assert run(tmp_path, execute) == 0
    chains = ['relu/seed0', 'metaacon/seed0', 'relu/seed1', 'metaacon/seed1']
    names = ['pretrain', 'pretrain_test', 'detection', 'detection_test']
    names += ['segmentation', 'segmentation_test']
    expected = [f'{chain}/{name}' for chain, name in itertools.product(chains, names)]
    assert execute.folders == expected
    assert execute.calls[0][0][1:] == [
        str(TOOLS / 'dataset_converters/make_digit_scenes.py'),
        '--out',
        'data/digit_scenes',
    ]
    again = FakeExecute()
    assert run(tmp_path, again) == 0
    assert again.calls == []


@pytest.mark.parametrize('error', [KeyboardInterrupt(), UserError('the disk is full')])
@pytest.mark.parametrize('call', [2, 5, 9])
def test_an_interrupted_grid_goes_on_with_the_step_it_was_in(tmp_path, error, call):
    first, second = FakeExecute(stop={call: error}), FakeExecute()
    with pytest.raises(type(error)):
        run(tmp_path, first)
    run(tmp_path, second)
    assert first.folders[-1] == second.folders[0]
    assert len(first.folders) == call - 1
    whole = FakeExecute()
    run(tmp_path / 'whole', whole)
    assert first.folders[:-1] + second.folders == whole.folders


def test_a_wider_grid_runs_only_what_is_new(tmp_path):
    run(tmp_path, FakeExecute())
    execute = FakeExecute()
    wider = plan(tmp_path, ('relu', 'swish', 'metaacon'), (0, 1, 2))
    run_grid(DIGITS, wider, tmp_path, TOOLS, execute=execute, say=lambda line: None)
    new = {'/'.join(folder.split('/')[:2]) for folder in execute.folders}
    assert new == {'swish/seed0', 'swish/seed1', 'relu/seed2', 'swish/seed2', 'metaacon/seed2'}
    assert len(execute.folders) == 5 * 6


def test_no_step_starts_after_the_limit_and_the_last_line_says_what_is_left(tmp_path):
    execute, said = FakeExecute(), []
    # The clock goes on by a minute from one look to the next.
    clock = itertools.count(step=60).__next__
    left = run(tmp_path, execute, said, limit_minutes=6, clock=clock)
    assert left == 24 - len(execute.folders) > 0
    assert 'No step starts after 6 min: ' in said[-1]
    assert f'{left} steps are left' in said[-1]
    assert run(tmp_path, FakeExecute()) == 0


def test_with_a_limit_of_zero_nothing_runs(tmp_path):
    execute = FakeExecute()
    assert run(tmp_path, execute, limit_minutes=0) == 24
    assert execute.calls == []


def test_the_estimate_is_the_mean_of_whole_runs_of_the_same_name(tmp_path):
    (chain,) = plan(tmp_path, ['relu'], [0])
    pretrain, pretrain_test, detection, *_ = chain.steps
    times = StepTimes({'detection': 100.0})
    times.add(pretrain, {'seconds': 10, 'resumed': False})
    times.add(pretrain, {'seconds': 20, 'resumed': False})
    times.add(pretrain, {'seconds': 1, 'resumed': True})
    assert times.estimate([pretrain, pretrain, detection]) == 15 + 15 + 100
    times.add(detection, {'seconds': 50, 'resumed': False})
    assert times.estimate([detection]) == 50
    assert times.estimate([pretrain, pretrain_test]) is None


def test_progress_is_told_over_the_whole_grid(tmp_path):
    said = []
    preset = replace(DIGITS, seconds={})
    run_grid(preset, plan(tmp_path), tmp_path, TOOLS, execute=FakeExecute(), say=said.append)
    assert said[0].startswith('[1/24] relu, seed 0, pretrain: of unknown duration, log ')
    assert said[1].endswith('23 steps are left, of unknown duration')
    # The first chain shows how long each step takes.
    assert re.match(r'\[7/24] metaacon, seed 0, pretrain: about \d+ s, log ', said[12])
    assert 'mIoU 62.50' in said[11]
    assert said[-1].endswith('nothing is left')


def test_a_finished_chain_leaves_a_summary(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FakeExecute(stop={7: KeyboardInterrupt()}))
    path = tmp_path / 'relu' / 'seed0' / 'summary.json'
    assert not path.exists()
    run(tmp_path, FakeExecute())
    summary = json.loads(path.read_text())
    assert summary == summarise(plan(tmp_path)[0])
    assert summary['metrics']['detection']['box AP'] == 50
    assert summary['metrics']['segmentation'] == {'mIoU': 62.5}
    assert (summary['variant'], summary['seed'], summary['preset']) == ('relu', 0, 'digits')
    for checkpoint in summary['checkpoints'].values():
        assert (path.parent / checkpoint).is_file()
    assert len(list(tmp_path.glob('*/*/summary.json'))) == 4


def test_a_chain_that_ended_before_the_grid_was_interrupted_has_its_summary(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FakeExecute(stop={9: KeyboardInterrupt()}))
    assert [path.parent.parent.name for path in tmp_path.glob('*/*/summary.json')] == ['relu']


def test_what_is_run_dry_is_what_is_missing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FakeExecute(stop={4: KeyboardInterrupt()}))
    said = []
    assert dry_run(plan(tmp_path), TOOLS, said.append) == 22
    assert said[:3] == [
        '# relu, seed 0, pretrain: finished',
        '# relu, seed 0, pretrain_test: finished',
        '# relu, seed 0, detection: goes on',
    ]
    assert f'ACON_MM_PRETRAINED={tmp_path}/relu/seed0/pretrain/epoch_2.pth ' in said[3]


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    with open(tmp_path / '.lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='another process works in'):
            run(tmp_path, FakeExecute())
    assert run(tmp_path, FakeExecute()) == 0


def test_what_is_there_can_be_looked_at_while_another_process_works(tmp_path):
    run(tmp_path, FakeExecute())
    summary = tmp_path / 'relu' / 'seed0' / 'summary.json'
    summary.unlink()
    with open(tmp_path / '.lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run(tmp_path, FakeExecute(), limit_minutes=0) == 0
    assert not summary.exists()


def test_a_training_that_outlives_a_killed_grid_keeps_others_out(tmp_path):
    tools, root = tmp_path / 'tools', tmp_path / 'grid'
    tools.mkdir()
    pid = tmp_path / 'pid'
    (tools / 'train.py').write_text(
        f'import os, time\nopen({str(pid)!r}, "w").write(str(os.getpid()))\ntime.sleep(300)\n'
    )
    script = (
        'import sys; from dataclasses import replace; from pathlib import Path\n'
        f'sys.path.insert(0, {str(Path(__file__).parent)!r})\n'
        'from transfer_fake import PRESETS, plan\n'
        'from acon_mm.analysis.transfer_grid import run_grid\n'
        'preset = replace(PRESETS["digits"], prepare=None)\n'
        f'root, tools = Path({str(root)!r}), Path({str(tools)!r})\n'
        'run_grid(preset, plan(root), root, tools)\n'
    )
    grid = subprocess.Popen([sys.executable, '-c', script])
    try:
        while not (pid.exists() and pid.read_text()):
            assert grid.poll() is None
            time.sleep(0.1)
        grid.kill()
        grid.wait()
        with pytest.raises(UserError, match='another process works in'):
            run(root, FakeExecute())
    finally:
        grid.kill()
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGKILL)
    for patience in reversed(range(100)):  # the killed training may not be cleared away yet
        try:
            assert run(root, FakeExecute()) == 0
            break
        except UserError:
            assert patience
            time.sleep(0.1)


def test_a_changed_grid_is_refused_before_anything_runs(tmp_path):
    run(tmp_path, FakeExecute())
    execute = FakeExecute()
    changed = plan(tmp_path, seeds=(2, 0), options={'segmentation.train_cfg.max_iters': 9})
    with pytest.raises(UserError, match=r'config.train_cfg.max_iters \d+, not 9'):
        run_grid(DIGITS, changed, tmp_path, TOOLS, execute=execute, say=lambda line: None)
    assert execute.calls == []


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0, '0 s'), (59.4, '59 s'), (60, '1 min'), (3570, '1 h 00 min'), (7500, '2 h 05 min')],
)
def test_durations_are_written_as_people_do(seconds, text):
    assert duration(seconds) == text


def test_the_commit_is_marked_where_tracked_files_differ(tmp_path):
    def git(*arguments):
        identity = ['-c', 'user.name=n', '-c', 'user.email=e']
        command = ['git', '-C', str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert describe_commit(tmp_path) is None
    git('init')
    (tmp_path / 'file').write_text('1')
    git('add', 'file')
    git('commit', '-m', 'first')
    commit = git('rev-parse', '--short=12', 'HEAD')
    assert describe_commit(tmp_path) == commit
    (tmp_path / 'file').write_text('2')
    assert describe_commit(tmp_path) == f'{commit}+'
