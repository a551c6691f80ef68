"""tools/demo.sh with a stand-in for Python: what it runs, what it says and how it ends."""

import subprocess

import pytest

STAND_IN = """#!/bin/bash
echo "$ACON_MM_PRETRAINED|$*" >> {calls}
while [[ $# -gt 0 ]]; do
    [[ $1 == --work-dir ]] && work_dir=$2
    script=${{script:-$1}}; shift
done
case $script in
    *{failing}.py) echo 'the disk is full'; exit 3 ;;
    *train.py) mkdir -p "$work_dir"; echo epoch_1.pth > "$work_dir/last_checkpoint" ;;
    *test.py) echo '11/21 22:33:16 - mmengine - INFO - Epoch(test) [9/9]  {logged}  time: 0.2' ;;
esac
"""


LOGGED = {
    'detection': 'coco/bbox_mAP: {}  coco/bbox_mAP_50: 0.9',
    'segmentation': 'aAcc: 99.0  mIoU: {}  mAcc: 98.0',
}
# Of each task: the folder of its model, a result that is enough, what is wanted, its name.
TASKS = {
    'detection': ('detector', '0.5300', '0.45', 'bbox mAP'),
    'segmentation': ('segmentor', '61.3000', '60', 'mIoU in %'),
}


@pytest.fixture
def demo(repo_root, tmp_path, monkeypatch):
    def run(task='detection', result=None, failing='nothing'):
        calls, python = tmp_path / 'calls', tmp_path / 'python'
        logged = LOGGED.get(task, '').format(result or TASKS[task or 'detection'][1])
        python.write_text(STAND_IN.format(calls=calls, logged=logged, failing=failing))
        python.chmod(0o755)
        monkeypatch.setenv('TASK', task)
        monkeypatch.setenv('PYTHON', str(python))
        monkeypatch.setenv('WORK_DIR', str(tmp_path / 'work'))
        monkeypatch.delenv('ACON_MM_PRETRAINED', raising=False)
        command = ['bash', str(repo_root / 'tools' / 'demo.sh')]
        process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        return process, calls.read_text().splitlines() if calls.is_file() else []

    return run


@pytest.mark.parametrize('task', TASKS)
def test_the_second_training_starts_from_the_pretrained_classifier(demo, tmp_path, task):
    result, calls = demo(task)
    assert result.returncode == 0, result.stderr
    commands = [call.partition('|')[2].split() for call in calls]
    scripts = [command[0].rpartition('/')[2] for command in commands]
    assert scripts == ['make_digit_scenes.py', 'train.py', 'train.py', 'test.py']
    configs = [command[1].split('/')[1] for command in commands[1:]]
    assert configs == ['classification', task, task]
    pretrained = [call.partition('|')[0] for call in calls]
    assert pretrained[:2] == ['', '']
    assert pretrained[2] == f'{tmp_path}/work/pretrain/epoch_1.pth'


@pytest.mark.parametrize('task', TASKS)
def test_the_end_names_the_result_the_checkpoint_the_log_and_the_pictures(demo, tmp_path, task):
    result, _ = demo(task)
    folder, enough, wanted, metric = TASKS[task]
    end = result.stdout.partition('== Test')[2].partition('\n\n')[2]
    assert end.startswith(f'{metric}: ')
    assert f' {enough} (at least {wanted} is expected)' in end
    work = tmp_path / 'work'
    for place in (f'{folder}/epoch_1.pth', f'{folder}.log', 'pictures'):
        assert str(work / place) in end


@pytest.mark.parametrize(
    ('task', 'result', 'status'),
    [
        ('detection', '0.4490', 1),
        ('detection', '0.4500', 0),
        ('detection', 'nan', 1),
        ('segmentation', '59.9900', 1),
        ('segmentation', '60.0000', 0),
        ('segmentation', 'nan', 1),
    ],
)
def test_the_status_tells_whether_the_result_was_reached(demo, task, result, status):
    process, _ = demo(task, result)
    assert process.returncode == status
    assert (f'does not reach {TASKS[task][2]}' in process.stderr) == bool(status)


def test_without_a_task_it_is_detection_and_another_one_is_refused(demo):
    _, calls = demo('')
    assert 'configs/detection/' in calls[2]
    result, calls = demo('tracking', 'nothing')
    assert result.returncode == 2
    assert "TASK is 'tracking'; use detection or segmentation" in result.stderr


def test_a_failing_step_stops_the_demo_and_names_its_log(demo, tmp_path):
    result, calls = demo(failing='train')
    assert result.returncode == 1
    assert len(calls) == 2
    assert 'the disk is full' in result.stderr
    assert f'{tmp_path}/work/pretrain.log' in result.stderr
