import os
import signal

import pytest

from acon_mm.engine.work_dir import only_run_in
from acon_mm.errors import UserError


def test_a_second_training_is_kept_out_until_the_first_ends(tmp_path):
    for _ in range(2):
        with (
            only_run_in(tmp_path / 'new'),
            only_run_in(tmp_path / 'other'),
            pytest.raises(UserError, match='another training runs in'),
            only_run_in(tmp_path / 'new'),
        ):
            pass


def test_a_worker_that_lives_longer_keeps_nobody_out(tmp_path):
    read, write = os.pipe()
    with only_run_in(tmp_path):
        worker = os.fork()
        if not worker:
            os.write(write, b'x')
            signal.pause()
    os.read(read, 1)  # it runs
    try:
        with only_run_in(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
