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
    *train.py) mkdir -p "$work_dir"; echo "$work_dir/epoch_1.pth" > "$work_dir/last_checkpoint" ;;
    *test.py) echo '11/21 22:33:16 - mmengine - INFO - Epoch(test) [9/9]  coco/bbox_mAP: {map}' ;;
esac
"""


@pytest.fixture
def demo(repo_root, tmp_path, monkeypatch):
    def run(bbox_map='0.5300', failing='nothing'):
        calls, python = tmp_path / 'calls', tmp_path / 'python'
        python.write_text(STAND_IN.format(calls=calls, map=bbox_map, failing=failing))
        python.chmod(0o755)
        monkeypatch.setenv('PYTHON', str(python))
        monkeypatch.setenv('WORK_DIR', str(tmp_path / 'work'))
        monkeypatch.delenv('ACON_MM_PRETRAINED', raising=False)
        command = ['bash', str(repo_root / 'tools' / 'demo.sh')]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        return result, calls.read_text().splitlines()

    return run


def test_the_detector_starts_from_the_pretrained_classifier(demo, tmp_path):
    result, calls = demo()
    assert result.returncode == 0, result.stderr
    scripts = [call.partition('|')[2].split()[0].rpartition('/')[2] for call in calls]
    assert scripts == ['make_digit_scenes.py', 'train.py', 'train.py', 'test.py']
    pretrained = [call.partition('|')[0] for call in calls]
    assert pretrained[:2] == ['', '']
    assert pretrained[2] == f'{tmp_path}/work/pretrain/epoch_1.pth'


def test_the_end_names_the_checkpoint_the_log_and_the_pictures(demo, tmp_path):
    result, _ = demo()
    work = tmp_path / 'work'
    assert 'bbox mAP:    0.5300' in result.stdout
    for place in ('detector/epoch_1.pth', 'detector.log', 'pictures'):
        assert str(work / place) in result.stdout


@pytest.mark.parametrize(('bbox_map', 'status'), [('0.4490', 1), ('0.4500', 0), ('nan', 1)])
def test_the_status_tells_whether_the_map_was_reached(demo, bbox_map, status):
    result, _ = demo(bbox_map)
    assert result.returncode == status
    assert ('does not reach 0.45' in result.stderr) == bool(status)


def test_a_failing_step_stops_the_demo_and_names_its_log(demo, tmp_path):
    result, calls = demo(failing='train')
    assert result.returncode == 1
    assert len(calls) == 2
    assert 'the disk is full' in result.stderr
    assert f'{tmp_path}/work/pretrain.log' in result.stderr
