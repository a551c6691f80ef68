"""A step goes on where it was interrupted, unless it or what it starts from has changed."""

import fcntl
import sys
from pathlib import Path

import pytest
import step
from mmengine.config import Config

from acon_mm.errors import UserError

CLASSIFY = ('train', 'relu', '0', 'classify')
DETECT = ('train', 'relu', '0', 'detect')
FOLDER = Path('runs/relu/seed0/detect')


@pytest.fixture
def run(project, make_grid, monkeypatch):
    """Run a step of the toy grid; ``interrupt=True`` ends it after its first checkpoint."""

    def run(*one, interrupt=False, **changes):
        grid = make_grid(**changes)
        with monkeypatch.context() as patch:
            if interrupt:
                patch.setattr(step, 'execute', leave_a_checkpoint)
            step.run_step(grid, *one)
        return grid.result(*one) if one[1:] else None

    def leave_a_checkpoint(command, folder, lock, environment=None):
        (folder / 'epoch_1.pth').write_text('half trained')
        (folder / 'last_checkpoint').write_text('/elsewhere/epoch_1.pth')
        raise KeyboardInterrupt

    run('prepare')
    run(*CLASSIFY)
    return run


def aside():
    """Return what the folders hold that were moved out of the detector's way."""
    return [path.read_text() for path in FOLDER.parent.glob('detect.2*/epoch_1.pth')]


def test_the_detector_starts_from_its_classifier_and_each_is_tested_with_its_own(run):
    assert run(*DETECT)['checkpoint'] == 'epoch_2.pth'
    cfg = Config.fromfile(FOLDER / 'toy.py')
    expected = dict(type='Pretrained', prefix='backbone.')
    expected['checkpoint'] = 'runs/relu/seed0/classify/epoch_2.pth'
    assert cfg.model.backbone.init_cfg == expected
    assert run('test', *DETECT[1:])['metrics'] == {'Top 1 Error': 25, 'box AP': 50}


def test_an_interrupted_training_goes_on(run):
    with pytest.raises(KeyboardInterrupt):
        run(*DETECT, interrupt=True)
    assert run(*DETECT)['resumed']
    assert aside() == []
    assert '--resume auto' in (FOLDER / 'epoch_2.pth').read_text()


@pytest.mark.parametrize('changed', ['an option', 'the classifier', 'the data', 'processes'])
def test_one_with_other_settings_or_after_another_run_starts_in_an_empty_folder(run, changed):
    with pytest.raises(KeyboardInterrupt):
        run(*DETECT, interrupt=True)
    changes = {}
    if changed == 'an option':
        changes = {'options': {'train_cfg.max_epochs': 3}}
    if changed == 'processes':
        changes = {'gpus': 2}
    if changed == 'the classifier':
        run(*CLASSIFY)
    if changed == 'the data':
        run('prepare')
    with pytest.raises(KeyboardInterrupt):
        run(*DETECT, interrupt=True, **changes)
    assert aside() == ['half trained']


def test_a_finished_training_that_runs_again_starts_in_an_empty_folder(run):
    """A training that went on from its own end would train nothing and say it had."""
    first = run(*DETECT)
    again = run(*DETECT)
    assert (again['resumed'], len(aside())) == (False, 1)
    assert again['run'] != first['run']


@pytest.mark.parametrize('changed', ['an option', 'the classifier', 'the file'])
def test_a_result_that_is_not_of_this_grid_counts_as_none(run, make_grid, changed):
    run(*DETECT)
    assert run('test', *DETECT[1:])
    grid = make_grid()
    if changed == 'an option':
        grid = make_grid(options={'train_cfg.max_epochs': 3})
    if changed == 'the classifier':
        run(*CLASSIFY)
    if changed == 'the file':
        grid.path('test', *DETECT[1:]).write_text('{"metr')
    assert grid.result('test', *DETECT[1:]) is None


def test_several_processes_are_started_by_the_launch_scripts(run, monkeypatch):
    calls = []
    monkeypatch.setattr(step, 'execute', lambda *call: calls.append(call))
    with pytest.raises(FileNotFoundError):  # nothing ran, so it left no checkpoint
        run(*DETECT, gpus=4)
    ((command, _, _, environment),) = calls
    assert list(map(str, command[:2])) == ['bash', str(step.TOOLS / 'dist_train.sh')]
    assert command[3] == 4
    assert environment['OMP_NUM_THREADS'] == 1


def test_a_folder_in_which_another_process_still_works_is_left_alone(run):
    with open(FOLDER.with_name('.detect.lock'), 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"still works in 'runs/relu/seed0/detect'"):
            run(*DETECT)
    assert run(*DETECT)


def test_a_failing_command_is_told_with_the_end_of_its_log(project):
    (project / 'log.txt').write_text('first run\n')
    script = 'import sys; sys.exit("disk is full")'
    with (
        open('lock', 'w') as lock,
        pytest.raises(UserError, match=r'(?s)status 1; .*disk is full'),
    ):
        step.execute([sys.executable, '-c', script], project, lock.fileno())
    assert (project / 'log.txt').read_text() == 'first run\ndisk is full\n'


def test_a_detector_that_finds_nothing_has_0_and_no_other_test_goes_without_metrics(run, project):
    """mmdet then logs how long the test took, and no metrics."""
    (project / 'logged').write_text('{"time": 0.3}')
    run(*DETECT)
    assert run('test', *DETECT[1:])['metrics'] == {'box AP': 0}
    with pytest.raises(UserError, match='left no Top 1 Error'):
        run('test', *CLASSIFY[1:])
