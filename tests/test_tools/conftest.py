import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOY_PROJECT = Path(__file__).parent / 'toy_project'

HANGS_AFTER_SECONDS = 300

TOY_CONFIG = """
custom_imports = dict(imports=['acon_toy'])
loader = dict(
    dataset=dict(type='ToyDataset'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    batch_size=2,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
)
model = dict(type='ToyModel')
train_dataloader = val_dataloader = test_dataloader = loader
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(type='ToyMetric')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
randomness = dict(seed=0)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope='session')
def start_tool():
    """Start a script of tools/ in a process of its own."""

    def start(script, *args, cwd=None, log=subprocess.PIPE, **environment):
        path = [str(ROOT), str(TOY_PROJECT), os.environ.get('PYTHONPATH', '')]
        program = [sys.executable] if script.endswith('.py') else ['bash']
        return subprocess.Popen(
            [*program, str(ROOT / 'tools' / script), *map(str, args)],
            cwd=cwd,
            env={
                'OMP_NUM_THREADS': '1',
                'PYTHON': sys.executable,
                'PORT': free_port(),
                **os.environ,
                'PYTHONPATH': os.pathsep.join(filter(None, path)),
                **environment,
            },
            stdout=log,
            stderr=subprocess.PIPE if log is subprocess.PIPE else log,
            text=True,
        )

    return start


@pytest.fixture(scope='session')
def run_tool(start_tool):
    """Run a script of tools/ to its end and return its status and what it printed."""

    def run(*args, **kwargs):
        process = start_tool(*args, **kwargs)
        try:
            out, err = process.communicate(timeout=HANGS_AFTER_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # torchrun passes it on to its processes
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture
def run_here(monkeypatch, capfd):
    """Run a script of tools/ as run_tool does, but in this process: imports take seconds."""

    def run(script, *args):
        path = ROOT / 'tools' / script
        monkeypatch.syspath_prepend(path.parent)
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, args)])
        # Loggers of earlier tests still write to the streams of those, which are closed.
        monkeypatch.setattr(logging, 'raiseExceptions', False)
        status = 0
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as end:
            status = end.code
        return subprocess.CompletedProcess(sys.argv, status, *capfd.readouterr())

    return run


@pytest.fixture
def toy_config(tmp_path, monkeypatch):
    """Write the toy's config and move to its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOY_PROJECT))
    path = tmp_path / 'toy.py'
    path.write_text(TOY_CONFIG)
    return path
