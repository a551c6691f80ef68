import os
import shutil
import threading
import time
from urllib.error import URLError

import pytest
import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

import acon_mm  # noqa: F401 - registers the loaders
from acon_mm.errors import CheckpointRefusedError, UserError

URLS = [
    'https://host/{}.pth',
    'torchvision://{}',
    'modelzoo://{}',
    'open-mmlab://{}',
    'mmcls://{}',
    's3://bucket/{}.pth',
]


class Payload:
    def __reduce__(self):
        return os.system, ('touch payload',)


@pytest.fixture
def internet(tmp_path, monkeypatch):
    """Serve the files of a folder under every kind of name; return the folder."""
    folder = tmp_path / 'internet'
    folder.mkdir()

    class Store:
        def get(self, url):
            return (folder / url.rpartition('/')[2]).read_bytes()

    def download(url, target, *args, **kwargs):
        shutil.copy(folder / url.rpartition('/')[2], target)

    names = {name: f'https://host/{name}.pth' for name in ('good', 'bad')}
    for function in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
        monkeypatch.setattr(mmengine_checkpoint, function, lambda: names)
    monkeypatch.setattr('acon_mm.checkpoints.remote.get_file_backend', lambda *a, **k: Store())
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {'backbone.a': torch.ones(2)}}, folder / 'good.pth')
    torch.save({'state_dict': {}, 'x': Payload()}, folder / 'bad.pth')
    return folder


def read(url):
    return CheckpointLoader.load_checkpoint(url, 'cpu', logger=None)


@pytest.mark.parametrize('url', URLS)
def test_a_file_from_elsewhere_is_read_like_one_on_this_machine(internet, url):
    state = read(url.format('good'))['state_dict']
    name = 'a' if url.startswith('mmcls') else 'backbone.a'
    assert torch.equal(state[name], torch.ones(2))


@pytest.mark.parametrize('url', URLS)
def test_a_harmful_file_from_elsewhere_is_refused(internet, url):
    with pytest.raises(CheckpointRefusedError, match=r'posix\.system'):
        read(url.format('bad'))
    assert not os.path.exists('payload')


def test_threads_that_read_at_the_same_time_do_not_lift_each_others_restriction(
    internet, monkeypatch
):
    """The first one ends while the second one is about to unpickle."""
    second_is_in, load = threading.Event(), torch.load
    outcome = []

    def slow_load(path, *args, **kwargs):
        if 'good' in str(path):
            assert second_is_in.wait(60)
        else:
            second_is_in.set()
            first.join(60)
        return load(path, *args, **kwargs)

    def read_bad():
        try:
            outcome.append(read('https://host/bad.pth'))
        except CheckpointRefusedError as error:
            outcome.append(error)

    monkeypatch.setattr(torch, 'load', slow_load)
    before = dict(os.environ)
    first = threading.Thread(target=read, args=['https://host/good.pth'])
    second = threading.Thread(target=read_bad)
    first.start()
    time.sleep(0.1)  # so that the first one is in before the second one
    second.start()
    second.join(60)
    assert not second.is_alive()
    assert isinstance(outcome[0], CheckpointRefusedError)
    assert not os.path.exists('payload')
    assert dict(os.environ) == before


def test_a_failed_download_is_no_damage(internet, monkeypatch):
    def fail(*args, **kwargs):
        raise URLError('Name or service not known')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)
    with pytest.raises(UserError, match=r'https://host/a\.pth.*cannot be downloaded.*not known'):
        read('https://host/a.pth')


@pytest.mark.parametrize(
    ('url', 'told'),
    [('open-mmlab://god', "did you mean 'good'"), ('pavi://a', 'download the file')],
)
def test_a_name_that_is_not_known_is_told(internet, url, told):
    with pytest.raises(UserError, match=told):
        read(url)
