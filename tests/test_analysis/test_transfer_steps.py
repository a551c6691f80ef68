"""A step of the chain runs once, goes on where it stopped, and leaves its result."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acon_mm.analysis.transfer_identity import PRETRAINED
from acon_mm.analysis.transfer_steps import (
    execute_command,
    last_checkpoint,
    run_step,
    shell_line,
    step_command,
    step_result,
)
from acon_mm.apis.cli import CfgOptions
from acon_mm.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from transfer_fake import FakeExecute, plan

TOOLS = Path('tools')


def steps(root, **kwargs):
    (chain,) = plan(root, ['metaacon'], [0], **kwargs)
    return {step.name: step for step in chain.steps}


def run_all(root, *names):
    execute = FakeExecute()
    found = steps(root)
    for name in names:
        run_step(found[name], execute, TOOLS, 'abc')
    return execute


def test_the_classifiers_checkpoint_goes_to_both_and_each_is_tested_with_its_own(tmp_path):
    names = list(steps(tmp_path))
    execute = run_all(tmp_path, *names)
    folder = tmp_path / 'metaacon' / 'seed0'
    pretrained = {PRETRAINED: str(folder / 'pretrain' / 'epoch_2.pth')}
    for name, (command, environment) in zip(names, execute.calls, strict=True):
        if name.endswith('_test'):
            assert command[1] == 'tools/test.py'
            assert command[3] == str(folder / name.removesuffix('_test') / 'epoch_2.pth')
        else:
            assert command[1] == 'tools/train.py'
            assert environment == ({} if name == 'pretrain' else pretrained)


def test_a_step_has_ended_well_only_with_its_result(tmp_path):
    step = steps(tmp_path)['pretrain']
    assert step_result(step) is None
    with pytest.raises(KeyboardInterrupt):
        run_step(step, FakeExecute(stop={1: KeyboardInterrupt()}), TOOLS)
    assert step_result(step) is None
    result = run_step(step, FakeExecute(), TOOLS, 'abc')
    assert step_result(step) == result
    assert (result['resumed'], result['commit']) == (True, 'abc')
    assert result['checkpoint'] == 'epoch_2.pth'
    assert [path.name for path in step.folder.glob('*.pth')] == ['epoch_2.pth']


def test_a_command_can_be_started_again_after_an_interrupt(tmp_path):
    command = step_command(steps(tmp_path)['pretrain'], TOOLS)
    assert command[command.index('--resume') + 1] == 'auto'


def test_the_metrics_of_a_test_are_its_own(tmp_path):
    run_all(tmp_path, 'pretrain', 'pretrain_test', 'detection', 'detection_test')
    found = {name: step_result(step) for name, step in steps(tmp_path).items()}
    assert found['pretrain_test']['metrics'] == {'Top 1 Error': 25.0}
    assert found['detection_test']['metrics'] == {
        'box AP': 50.0,
        'box AP@50': 75.0,
        'box AP@75': 62.5,
    }
    assert found['segmentation'] is None


def test_a_detector_that_finds_nothing_has_0_and_no_other_test_goes_without_metrics(tmp_path):
    """mmdet then logs how long the test took, and no metrics."""
    nothing = FakeExecute(logged={f'{name}_test': {'time': 0.3} for name in steps(tmp_path)})
    run_all(tmp_path, 'pretrain', 'detection', 'segmentation')
    found = steps(tmp_path)
    result = run_step(found['detection_test'], nothing, TOOLS)
    assert result['metrics'] == {'box AP': 0, 'box AP@50': 0, 'box AP@75': 0}
    for name in ('pretrain_test', 'segmentation_test'):
        with pytest.raises(UserError, match='left no metrics'):
            run_step(found[name], nothing, TOOLS)


@pytest.mark.parametrize('logged', ['{"time": 0.3}}', '{"mine/bbox_mAP": 0.5, "time": 0.3}'])
def test_a_log_that_cannot_be_read_is_no_detector_that_finds_nothing(tmp_path, logged):
    run_all(tmp_path, 'pretrain', 'detection')
    step = steps(tmp_path)['detection_test']

    def execute(*_):
        (step.folder / '000001').mkdir()
        (step.folder / '000001' / '000001.json').write_text(logged)

    with pytest.raises(UserError, match='left no metrics'):
        run_step(step, execute, TOOLS)


def test_a_test_that_stopped_before_its_end_is_an_error(tmp_path):
    run_all(tmp_path, 'pretrain', 'detection')
    with pytest.raises(UserError, match='left no metrics'):
        run_step(steps(tmp_path)['detection_test'], lambda *_: None, TOOLS)


def test_a_checkpoint_that_was_removed_is_missed_in_a_sentence(tmp_path):
    run_all(tmp_path, 'pretrain')
    step = steps(tmp_path)['pretrain']
    (step.folder / 'epoch_2.pth').unlink()
    with pytest.raises(UserError, match=r"without its checkpoint 'epoch_2.pth'; remove the fol"):
        last_checkpoint(step)


@pytest.mark.parametrize('name', ['pretrain', 'pretrain_test'])
def test_several_processes_are_started_by_the_launch_scripts(tmp_path, name):
    step = steps(tmp_path, processes=4)[name]
    command = step_command(step, TOOLS)
    kind = 'test' if step.is_test else 'train'
    assert command[:3] == ['bash', f'tools/dist_{kind}.sh', step.config]
    assert command[3 + step.is_test] == '4'


def test_options_arrive_as_they_were_given(tmp_path):
    given = {'a': 1, 'b.c': 0.5, 'd': None, 'e': [1, 2], 'f': 'one', 'g': True}
    # No config has these, so nothing but the command is made.
    command = step_command(steps(tmp_path, options=given)['pretrain'], TOOLS)
    pairs = command[command.index('--cfg-options') + 1 :]
    namespace = type('Namespace', (), {})()
    CfgOptions(['--cfg-options'], 'options')(None, namespace, pairs)
    assert {key: namespace.options[key] for key in given} == given


def test_a_shell_finds_the_checkpoint_that_is_not_there_yet(tmp_path):
    found = steps(tmp_path / 'with space')
    for name in ('detection', 'pretrain_test'):
        line = shell_line(found[name], TOOLS)
        assert line.count('"$(cat ') == 1
        assert shlex.quote(str(found['pretrain'].folder / 'last_checkpoint')) in line
    run_step(found['pretrain'], FakeExecute(), TOOLS)
    checkpoint = str(found['pretrain'].folder / 'epoch_2.pth')
    assert checkpoint in shlex.split(shell_line(found['pretrain_test'], TOOLS))
    assert f'{PRETRAINED}={checkpoint}' in shlex.split(shell_line(found['detection'], TOOLS))


def test_a_failing_command_is_told_with_the_end_of_its_log(tmp_path):
    log = tmp_path / 'log.txt'
    log.write_text('first run\n')
    with pytest.raises(UserError, match=r'(?s)status 3; the end of its log .*disk is full, mine'):
        execute_command(
            ['bash', '-c', 'echo "disk is full, $WHOSE" >&2; exit 3'], {'WHOSE': 'mine'}, log
        )
    assert log.read_text() == 'first run\ndisk is full, mine\n'


def test_an_interrupt_ends_the_command_and_waits_for_its_end(tmp_path, monkeypatch):
    log = tmp_path / 'log.txt'
    wait = subprocess.Popen.wait

    def interrupted(process):
        while 'ready' not in log.read_text():
            time.sleep(0.01)
        monkeypatch.setattr(subprocess.Popen, 'wait', wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, 'wait', interrupted)
    script = 'trap "echo asked to end; exit" TERM; echo ready; while :; do sleep 0.02; done'
    with pytest.raises(KeyboardInterrupt):
        execute_command(['bash', '-c', script], {}, log)
    assert log.read_text() == 'ready\nasked to end\n'
