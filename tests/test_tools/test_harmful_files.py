"""No file of a corpus runs anything, takes much memory or ends in more than one sentence."""

import contextlib
import itertools
import resource
from pathlib import Path

import harmful_checkpoints
import pytest
import torch

from acon_mm import apis
from acon_mm.apis.conversion import convert_official
from acon_mm.apis.publishing import publish_model
from acon_mm.checkpoints import reading
from acon_mm.errors import UserError
from acon_mm.models import AconMobileNetV2

ALLOWED_BYTES = 2 << 30
MODEL = 'shufflenetv2_0.5x_aconc'


@contextlib.contextmanager
def little_memory():
    """Let this process take no more than the allowed bytes beyond what it has."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + ALLOWED_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope='module')
def corpus():
    """Return the bytes of each file."""
    return harmful_checkpoints.corpus()


@pytest.fixture
def folder(toy_config, tmp_path, monkeypatch):
    """Go to a folder with the toy's config and the module that a payload imports."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / f'{harmful_checkpoints.MODULE}.py'
    path.write_text("open('payload', 'w')\nvalue = 1\n")
    return tmp_path


def fault_of(read, folder):
    """Return what is wrong with the way a function refuses ``bad.pth``, '' if nothing is."""
    try:
        with little_memory():
            read('bad.pth')
        fault = 'it was read'
    except UserError as error:
        reasons = [str(error)]
        cause = error
        while cause := cause.__cause__ or cause.__context__:
            reasons.append(f'{type(cause).__name__} {cause}')
        took = any("can't allocate memory" in x or 'MemoryError' in x for x in reasons)
        fault = f'it took memory: {reasons}' if took else ''
        if '\n' in str(error) or 'bad.pth' not in str(error):
            fault = f'no sentence: {error}'
    except Exception as error:
        fault = f'{type(error).__name__}: {error}'
    if (folder / 'payload').exists():
        (folder / 'payload').unlink()
        fault = f'its payload ran; {fault}'
    return fault


def faults(corpus, folder, ways):
    """Return what is wrong, by the way and the file."""
    found = {}
    for (name, content), (way, read) in itertools.product(corpus.items(), ways.items()):
        (folder / 'bad.pth').write_bytes(content)
        if fault := fault_of(read, folder):
            found[way, name] = fault[:300]
    return found


def init_cfg(path):
    start = {'type': 'Pretrained', 'checkpoint': path}
    AconMobileNetV2(widen_factor=0.17, init_cfg=start).init_weights()


WAYS = {
    'official_to_acon_mm.py': lambda path: convert_official(path, 'out.pth', MODEL),
    'publish_model.py': lambda path: publish_model(path, 'out.pth'),
    'get_model': lambda path: apis.get_model(MODEL, pretrained=path),
    'init_cfg': init_cfg,
    'train.py --resume': lambda path: apis.train('toy.py', resume=path),
    'load_from': lambda path: apis.train('toy.py', cfg_options={'load_from': path}),
    'test.py': lambda path: apis.test('toy.py', path),
}
QUICK = 'publish_model.py'


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('torch_takes_names', [True, False], ids=['this torch', 'torch 2.1'])
@pytest.mark.parametrize(
    'way', [QUICK, *(pytest.param(way, marks=pytest.mark.slow) for way in WAYS if way != QUICK)]
)
def test_each_file_is_refused_in_a_sentence(corpus, folder, monkeypatch, way, torch_takes_names):
    if torch_takes_names and not reading._TORCH_TAKES_NAMES:
        pytest.skip('this torch has no safe globals with names')
    monkeypatch.setattr(reading, '_TORCH_TAKES_NAMES', torch_takes_names)
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)  # asks compilers
    assert len(corpus) >= 66
    assert not faults(corpus, folder, {way: WAYS[way]})


def test_the_payloads_run_where_nothing_refuses_them(corpus, folder):
    """Show that the test above finds what it is for."""
    ran = []
    for name, content in corpus.items():
        if name.startswith('pickle: REDUCE'):
            (folder / 'bad.pth').write_bytes(content)
            with contextlib.suppress(Exception):
                torch.load('bad.pth', weights_only=False)
            if (folder / 'payload').exists():
                (folder / 'payload').unlink()
                ran.append(name)
    assert len(ran) > 10
