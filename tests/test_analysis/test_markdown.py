import pytest

from acon_mm.analysis.markdown import replace_between
from acon_mm.errors import UserError

CPU, CUDA = (f'<!-- run {d} -->\nold {d}\n<!-- end of run {d} -->\n' for d in ('cpu', 'cuda'))


def test_only_what_stands_between_the_marks_is_replaced():
    new = '<!-- run cpu -->\n\nnew \\1\n\n<!-- end of run cpu -->\n'
    replaced = replace_between(f'before\n{CPU}between\n{CUDA}after\n', 'run cpu', r'new \1')
    assert replaced == f'before\n{new}between\n{CUDA}after\n'
    assert replace_between(replaced, 'run cpu', r'new \1') == replaced


@pytest.mark.parametrize(
    'text',
    [
        CUDA,
        CPU.replace('end of ', ''),
        '<!-- run cpu -->\n',
        '<!-- end of run cpu -->\n<!-- run cpu -->\n',
        CPU + CPU,
        '<!-- run cpu -->\n' + CPU,
    ],
    ids=['another mark', 'no end', 'start alone', 'end first', 'twice', 'start twice'],
)
def test_a_text_without_the_marks_is_refused(text):
    with pytest.raises(UserError, match=r"'<!-- run cpu -->' and '<!-- end"):
        replace_between(text, 'run cpu', 'new')
