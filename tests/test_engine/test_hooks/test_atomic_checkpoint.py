"""A run that ends at any instant leaves a whole checkpoint, which is found."""

import contextlib
import os
import re
import resource
import shutil
from pathlib import Path

import pytest
from acon_random_toy import random_config
from mmengine.hooks import CheckpointHook, Hook

from acon_mm.checkpoints import load_from_local
from acon_mm.checkpoints.finding import find_newest_whole
from acon_mm.checkpoints.record import Digest
from acon_mm.errors import UserError

# What the save path asks the system for, besides the writes of :class:`Digest`.
CALLS = ('open', 'fsync', 'replace', 'unlink', 'remove', 'close')


class Death(BaseException):
    """The end of a process: nothing that follows it reaches the disk."""


@contextlib.contextmanager
def dying_after(allowed):
    """Let this process die when it asks the system for one thing more than is allowed."""
    made = []

    def counted(function):
        def call(*args, **kwargs):
            if len(made) == allowed:
                raise Death
            made.append((function.__name__, *args))
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(Digest, 'write', counted(Digest.write))
        yield made


class SaveAndDie(Hook):
    """Save once more after the run, dying at each system call in turn."""

    def __init__(self, save):
        self.save = save
        self.found = []
        self.calls = set()

    def after_train(self, runner):
        folder = Path(runner.work_dir)
        start = folder.with_name('start')
        shutil.copytree(folder, start)
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
        state = hook.__dict__.copy()
        hub = dict(runner.message_hub.runtime_info)
        is_dead, allowed = True, 0
        while is_dead:
            shutil.rmtree(folder)
            shutil.copytree(start, folder)
            hook.__dict__.update(state, keep_ckpt_ids=state['keep_ckpt_ids'].copy())
            runner.message_hub.runtime_info.clear()
            runner.message_hub.runtime_info.update(hub)
            is_dead = False
            with dying_after(allowed) as made:
                try:
                    self.save(hook, runner)
                except Death:
                    is_dead = True
            self.calls |= {call[0] for call in made}
            self.found.append(find_newest_whole(folder))
            load_from_local(self.found[-1])
            allowed += 1


SAVES = {
    'next': lambda hook, runner: hook._save_checkpoint_with_step(
        runner, 5, {'epoch': 5, 'iter': 20}
    ),
    'same_name': lambda hook, runner: hook._save_checkpoint_with_step(
        runner, 4, {'epoch': 4, 'iter': 16}
    ),
    'best': lambda hook, runner: hook._save_best_checkpoint(runner, {'acc': 1e9}),
}


@pytest.mark.parametrize('save', SAVES)
def test_a_death_at_any_system_call_of_a_save_leaves_a_whole_checkpoint(toy, tmp_path, save):
    cfg = random_config(tmp_path / 'run', **{'default_hooks.checkpoint.save_best': 'acc'})
    hook = SaveAndDie(SAVES[save])
    toy(cfg, hook=hook)
    assert len(hook.found) > 10
    assert {'write', 'fsync', 'replace', 'unlink'} <= hook.calls
    names = {path.name for path in hook.found}
    assert names == ({'epoch_4.pth', 'epoch_5.pth'} if save == 'next' else {'epoch_4.pth'})


def test_mmengine_leaves_none_at_the_same_deaths(toy, tmp_path):
    """Show that the test above finds what it is for."""
    cfg = random_config(
        tmp_path / 'run', **{'default_hooks.checkpoint.type': 'mmengine.CheckpointHook'}
    )
    hook = SaveAndDie(SAVES['next'])
    with pytest.raises(TypeError):  # there is no path to load
        toy(cfg, hook=hook)


def test_a_copied_work_dir_goes_on_from_its_own_files(toy, tmp_path):
    cfg = random_config(tmp_path / 'run', **{'default_hooks.checkpoint.save_best': 'acc'})
    toy(cfg)
    before = sorted(path.name for path in (tmp_path / 'run').glob('*.pth'))
    assert len(before) == 2  # the last one and the best one
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    assert not os.path.isabs((tmp_path / 'copy/last_checkpoint').read_text())
    cfg.merge_from_dict({'work_dir': str(tmp_path / 'copy'), 'train_cfg.max_epochs': 8})
    runner = toy(cfg, resume=True)
    assert runner.iter == 32
    assert sorted(path.name for path in (tmp_path / 'run').glob('*.pth')) == before
    assert len(list((tmp_path / 'copy').glob('*.pth'))) == 2


def test_remains_of_a_dead_process_go_at_the_next_start(toy, tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('.epoch_1.pth.77.acon_mm.tmp', 'epoch_0.pth.sha256', 'mine.txt'):
        (folder / name).write_text('x')
    toy(random_config(folder))
    left = {path.name for path in folder.iterdir() if path.is_file()}
    assert {'mine.txt', 'epoch_4.pth', 'epoch_4.pth.sha256', 'last_checkpoint'} == {
        name for name in left if not name.endswith('.py')
    }


@pytest.mark.parametrize('fault', ['flip', 'cut', 'empty', 'gone'])
@pytest.mark.parametrize('is_recorded', [True, False], ids=['record', 'no_record'])
def test_a_damaged_checkpoint_is_skipped_with_its_reason(toy, tmp_path, fault, is_recorded):
    changes = {'default_hooks.checkpoint.max_keep_ckpts': 2}
    toy(random_config(tmp_path / 'run', **changes))
    newest = find_newest_whole(tmp_path / 'run')
    assert newest.name == 'epoch_4.pth'
    content = bytearray(newest.read_bytes())
    place = content.find(load_from_local(newest)['state_dict']['last.weight'].numpy().tobytes())
    assert place > 0
    content[place] ^= 1
    damaged = {'flip': content, 'cut': content[:-100], 'empty': b''}
    if fault == 'gone':
        newest.unlink()
    else:
        newest.write_bytes(damaged[fault])
    if not is_recorded:
        newest.with_name('epoch_4.pth.sha256').unlink()
    assert find_newest_whole(tmp_path / 'run').name == 'epoch_3.pth'
    if is_recorded and fault != 'gone':
        with pytest.raises(UserError, match=r'epoch_4\.pth'):
            load_from_local(newest)


def test_the_record_is_read_by_sha256sum(toy, tmp_path):
    toy(random_config(tmp_path / 'run'))
    assert re.fullmatch(
        r'[0-9a-f]{64}  epoch_4\.pth\n', (tmp_path / 'run/epoch_4.pth.sha256').read_text()
    )


def test_a_full_disk_is_said_with_the_path_and_leaves_the_old_checkpoint(toy, tmp_path):
    """The system ends each file at a thousand bytes, as it does on a disk that is full."""

    class Limit(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UserError) as error:
            toy(random_config(tmp_path / 'run'), hook=Limit())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"'{tmp_path}/run/epoch_3.pth' cannot be written: " in str(error.value)
    assert 'File too large' in str(error.value)
    newest = find_newest_whole(tmp_path / 'run')
    assert newest.name == 'epoch_2.pth'
    load_from_local(newest)
    assert toy(random_config(tmp_path / 'run'), resume=True).iter == 16
