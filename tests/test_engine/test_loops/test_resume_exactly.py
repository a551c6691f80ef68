"""A run that was killed and resumed ends with the weights of one that was not."""

import copy

import pytest
import torch
from acon_random_toy import FETCHES, RandomDataset, random_config
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from acon_mm.checkpoints import load_from_local
from acon_mm.checkpoints.finding import find_newest_whole
from acon_mm.engine.exact_data import ExactLoader
from acon_mm.engine.random_state import random_state
from acon_mm.errors import UserError


class KillAt(Hook):
    """End the run behind the hooks of one of its places."""

    def __init__(self, place, count):
        self.place = place
        self.left = count

    def _count(self, place):
        if place == self.place:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    def after_train_iter(self, runner, **kwargs):
        self._count('iter')

    def after_train_epoch(self, runner):
        self._count('epoch')

    def after_val_iter(self, runner, **kwargs):
        self._count('val_iter')

    def after_val_epoch(self, runner, metrics=None):
        self._count('val')


def last_checkpoint(folder):
    return load_from_local(find_newest_whole(folder))


def assert_same(a, b):
    assert a['meta']['iter'] == b['meta']['iter'] == 16
    assert a['param_schedulers'] == b['param_schedulers']
    for part in ('state_dict', 'optimizer'):
        torch.testing.assert_close(a[part], b[part], rtol=0, atol=0)
    for name in ('train/loss', 'val/acc'):
        histories = [c['message_hub']['log_scalars'][name].data[0].tolist() for c in (a, b)]
        assert histories[0] == histories[1], name


PLACES = [('iter', 6), ('val', 1), ('iter', 1), ('epoch', 2), ('val_iter', 2), ('iter', 9)]
KINDS = {
    'epochs': {},
    'within_epochs': {'default_hooks.checkpoint': {'by_epoch': False, 'interval': 3}},
    'iterations': {},
}


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kind', KINDS)
def test_killed_anywhere_it_ends_the_same(toy, tmp_path, kind, workers):
    def config(name):
        changes = {'default_hooks.checkpoint.save_best': 'acc', **KINDS[kind]}
        is_by_epoch = kind != 'iterations'
        return random_config(tmp_path / name, by_epoch=is_by_epoch, workers=workers, **changes)

    toy(config('whole'))
    expected = last_checkpoint(tmp_path / 'whole')
    for place, count in PLACES[:1] if workers else PLACES:
        if (kind, place) == ('iterations', 'epoch'):
            continue  # all of it is one epoch
        cfg = config(f'{place}_{count}')
        killed = toy(cfg, hook=KillAt(place, count))
        assert killed.iter < 16
        toy(cfg, resume=True)
        assert_same(last_checkpoint(cfg.work_dir), expected)


def test_a_resume_at_a_late_iteration_loads_no_more_than_at_an_early_one(toy, tmp_path):
    fetches = []
    for last in (10, 10_000):
        changes = {'train_dataloader.dataset.count_fetches': True, 'train_cfg.max_iters': last + 3}
        cfg = random_config(tmp_path / f'{last}', by_epoch=False, **changes, val_cfg=None)
        for key in ('val_dataloader', 'val_evaluator'):
            cfg.pop(key)
        toy(cfg, hook=KillAt('iter', 4))
        path = find_newest_whole(cfg.work_dir)
        content = load_from_local(path)
        content['meta']['iter'] = content['train_loop'][0]['data']['batch'] = last
        torch.save(content, path)
        path.with_name(f'{path.name}.sha256').unlink()
        FETCHES.unlink()
        assert toy(cfg, resume=True).iter == last + 3
        fetches.append(len(FETCHES.read_text().splitlines()))
    assert fetches == [9, 9]  # three batches of three


def batches(workers, epochs=2, **changes):
    """Return the batches of some epochs by the exact loader."""
    sampler = DefaultSampler(RandomDataset(), shuffle=True, seed=1)
    loader = DataLoader(RandomDataset(), 3, sampler=sampler, num_workers=workers, **changes)
    data = ExactLoader(loader, seed=1)
    found = []
    for epoch in range(epochs):
        data.go_to(epoch)
        found += data.rest_of_epoch()
    return found


@pytest.mark.parametrize('persistent', [True, False])
def test_neither_workers_nor_the_state_of_the_process_change_the_data(persistent):
    expected = batches(0)
    torch.manual_seed(99)
    before = random_state()
    torch.testing.assert_close(batches(2, persistent_workers=persistent), expected, rtol=0, atol=0)
    assert str(random_state()) == str(before)


def test_no_noise_repeats_between_epochs_batches_and_processes(monkeypatch):
    noises = []
    for rank in range(2):
        monkeypatch.setattr('acon_mm.engine.exact_data.get_rank', lambda rank=rank: rank)
        noises += [x - y for inputs, ys in batches(0) for x, y in zip(inputs, ys, strict=True)]
    rounded = {tuple(noise.mul(1e4).round().tolist()) for noise in noises}
    assert len(rounded) == len(noises) == 48


def test_hooks_reach_the_data_set_inside():
    loader = DataLoader(RandomDataset(), 3)
    data = ExactLoader(loader, seed=0)
    assert data.loader.dataset.metainfo == {'classes': ('a',)}
    data.loader.dataset.length = 6
    assert loader.dataset.length == 6
    assert data.loader.batch_sampler.batch_size == 3


def test_a_checkpoint_of_mmengine_is_gone_on_from_at_its_iteration(toy, tmp_path):
    for by_epoch in (True, False):
        cfg = random_config(tmp_path / f'{by_epoch}', by_epoch=by_epoch)
        stock = copy.deepcopy(cfg)
        stock.train_cfg.type = stock.train_cfg.type.replace('acon_mm', 'mmengine')
        stock.default_hooks.checkpoint.type = 'mmengine.CheckpointHook'
        toy(stock, hook=KillAt('iter', 14))
        runner = toy(cfg, resume=True)
        assert runner.iter == 16


class DamagedDataset(RandomDataset):
    def __getitem__(self, index):
        if index == 5:
            raise OSError('image file is truncated\n(3 bytes)')
        return super().__getitem__(index)

    def get_data_info(self, index):
        return {'img_path': f'data/{index}.png'}


@pytest.mark.parametrize('workers', [0, 2])
def test_a_sample_that_cannot_be_loaded_is_named(workers):
    data = ExactLoader(DataLoader(DamagedDataset(), 3, num_workers=workers), seed=0)
    with pytest.raises(UserError) as error:
        list(data.rest_of_epoch())
    assert str(error.value).startswith(
        "sample 5 of 'data/5.png' cannot be loaded (OSError: image file is truncated (3 bytes));"
    )
    assert '\n' not in str(error.value)
    assert data.batch == 1
