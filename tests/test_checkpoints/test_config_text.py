"""A text counts as harmless only if it gives names to values."""

import pytest
from mmengine.config import Config

from acon_mm.checkpoints.config_text import holds_values_only

PROGRAMS = {
    'import': 'import os',
    'call': "x = open('payload', 'w')",
    'call in a dict': "model = dict(type=print('x'))",
    'positional argument of dict': 'x = dict(open("payload", "w"))',
    'dict with another meaning': "dict = 'a'",
    'attribute': 'x = ().__class__',
    'subscript': 'x = [1][0]',
    'comprehension': 'x = [i for i in (1, 2)]',
    'lambda': 'x = lambda: 0',
    'operator': "x = 'a' * 10**9",
    'f-string': "x = f'{open(1)}'",
    'decorator': '@print\nclass A: pass',
    'default argument': "def f(a=open('payload', 'w')): pass",
    'another file': "_base_ = 'payload.py'",
    'a template that closes the string': """x = '{{$NONE:'; open("payload", "w") #}}'""",
    'unpacked dict': 'x = dict(**open("payload", "w"))',
    'no Python': 'model = dict(',
    'no text': 5,
}


@pytest.mark.parametrize('kind', PROGRAMS)
def test_a_program_is_told_from_values(kind):
    assert not holds_values_only(PROGRAMS[kind])


@pytest.mark.parametrize(
    'name', ['classification/resnet50_metaacon.py', 'detection/retinanet_r50_metaacon.py']
)
def test_what_mmengine_dumps_holds_values_only(repo_root, name):
    cfg = Config.fromfile(repo_root / 'configs' / name)
    cfg.limits = (-1, 1e-5, float('inf'), None, True, b'a', {1: ('x',)}, {'a b': {2, 3}})
    assert holds_values_only(cfg.pretty_text)
