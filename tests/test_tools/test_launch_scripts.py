"""The shell scripts start what they say, with the arguments they were given."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    'dist_train.sh': 'CONFIG GPUS',
    'dist_test.sh': 'CONFIG CHECKPOINT GPUS',
    'slurm_train.sh': 'PARTITION JOB_NAME CONFIG WORK_DIR',
    'slurm_test.sh': 'PARTITION JOB_NAME CONFIG CHECKPOINT',
}
SPACED = ['--cfg-options', 'a=[1, 2]']


@pytest.fixture
def started(tmp_path):
    """Run a script with programs that only print their arguments, one a line."""
    for name in ('python', 'srun'):
        program = tmp_path / name
        program.write_text(
            f'#!{sys.executable}\nimport os, sys\n'
            f'print(*sys.argv[1:], "OMP=" + os.environ.get("OMP_NUM_THREADS", ""), sep="\\n")\n'
        )
        program.chmod(0o755)

    def run(script, *args, **environment):
        path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
        clean = {
            name: value
            for name, value in os.environ.items()
            if name
            not in (
                'MAX_RESTARTS',
                'PYTHON',
                'OMP_NUM_THREADS',
                'NNODES',
                'NODE_RANK',
                'PORT',
                'GPUS',
            )
        }
        return subprocess.run(
            [ROOT / 'tools' / script, *args],
            cwd=tmp_path,
            env={**clean, 'PATH': path, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize('script', SCRIPTS)
def test_missing_arguments_get_the_usage(started, script):
    run = started(script, *['x'] * (len(SCRIPTS[script].split()) - 1))
    assert run.returncode == 2
    assert run.stderr.startswith('usage:')
    assert f'{SCRIPTS[script]} [arguments' in run.stderr
    assert run.stdout == ''


@pytest.mark.parametrize(
    ('script', 'args', 'tool', 'passed'),
    [
        ('dist_train.sh', ['my config.py', '2'], 'train.py', ['my config.py']),
        ('dist_test.sh', ['c.py', 'a b.pth', '2'], 'test.py', ['c.py', 'a b.pth']),
    ],
)
def test_torchrun_gets_the_arguments(started, script, args, tool, passed):
    run = started(script, *args, *SPACED)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    defaults = '-m torch.distributed.run --nnodes 1 --node_rank 0 --master_addr 127.0.0.1'
    assert lines[:8] == defaults.split()
    assert lines[8:12] == ['--master_port', '29500', '--nproc_per_node', '2']
    assert lines[12:14] == ['--max-restarts', '3']
    assert lines[14:-1] == [str(ROOT / 'tools' / tool), *passed, *SPACED, '--launcher', 'pytorch']


def test_the_other_machines_of_a_run_are_named_by_the_environment(started):
    run = started(
        'dist_train.sh', 'c.py', '8', NNODES='4', NODE_RANK='3', PORT='1', MASTER_ADDR='h'
    )
    expected = '--nnodes 4 --node_rank 3 --master_addr h --master_port 1 --nproc_per_node 8'
    assert expected in ' '.join(run.stdout.splitlines())


def test_threads_are_shared_out_unless_they_are_given(started):
    alone, shared, given = (
        started('dist_train.sh', 'c.py', gpus, **environment).stdout.splitlines()[-1]
        for gpus, environment in (('1', {}), ('1000', {}), ('2', {'OMP_NUM_THREADS': '7'}))
    )
    assert alone == f'OMP={len(os.sched_getaffinity(0))}'
    assert shared == 'OMP=1'
    assert given == 'OMP=7'


@pytest.mark.parametrize('gpus', ['two', '0', '--resume', ''])
def test_a_number_of_gpus_that_is_none_is_refused(started, gpus):
    run = started('dist_train.sh', 'c.py', gpus)
    assert run.returncode == 2
    assert f"GPUS is '{gpus}'" in run.stderr


@pytest.mark.parametrize(
    ('script', 'tool', 'passed'),
    [
        ('slurm_train.sh', 'train.py', ['c.py', '--work-dir', 'a b']),
        ('slurm_test.sh', 'test.py', ['c.py', 'a b']),
    ],
)
def test_srun_gets_the_arguments(started, script, tool, passed):
    settings = {'GPUS': '4', 'CPUS_PER_TASK': '3', 'SRUN_ARGS': '--time 1 --exclusive'}
    run = started(script, 'part', 'job', 'c.py', 'a b', *SPACED, **settings)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()[:-1]
    slurm, job = lines[: lines.index('python')], lines[lines.index('python') + 1 :]
    assert ' '.join(slurm) == (
        '--partition part --job-name job --gres gpu:4 --ntasks 4 --ntasks-per-node 4 '
        '--cpus-per-task 3 --kill-on-bad-exit=1 --time 1 --exclusive'
    )
    assert job == ['-u', str(ROOT / 'tools' / tool), *passed, *SPACED, '--launcher', 'slurm']


@pytest.mark.parametrize(('status', 'is_requeued'), [(75, True), (1, False), (0, False)])
def test_a_job_that_a_signal_interrupted_is_queued_again(started, tmp_path, status, is_requeued):
    started('slurm_train.sh')  # which writes the programs
    (tmp_path / 'srun').write_text(f'#!/bin/sh\nexit {status}\n')
    (tmp_path / 'scontrol').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'scontrol').chmod(0o755)
    run = started('slurm_train.sh', 'part', 'job', 'c.py', 'dir', SLURM_JOB_ID='7')
    assert run.returncode == status
    assert run.stdout == ('requeue 7\n' if is_requeued else '')


def test_a_port_in_use_is_said_in_a_sentence(started):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        run = started('dist_train.sh', 'c.py', '2', PORT=str(port))
    assert run.returncode == 2
    assert f'port {port} is in use' in run.stderr
    assert f'PORT={port + 1}' in run.stderr
    assert not run.stdout
