import pytest

from acon_mm.analysis.marks import check_marks, replace_between, write_between_marks
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
def test_a_file_without_the_marks_is_refused_and_stays(tmp_path, text):
    path = tmp_path / 'performance.md'
    path.write_text(text)
    for refused in (check_marks, lambda *args: write_between_marks(*args, 'new')):
        with pytest.raises(UserError, match=r"performance\.md: '<!-- run cpu -->' and '<!-- end"):
            refused(path, 'run cpu')
    assert path.read_text() == text


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match='is no file'):
        check_marks(tmp_path / 'performance.md', 'run cpu')


def test_a_check_leaves_the_file_and_writing_replaces_its_part(tmp_path):
    path = tmp_path / 'performance.md'
    path.write_text(CPU)
    check_marks(path, 'run cpu')
    assert path.read_text() == CPU
    write_between_marks(path, 'run cpu', 'ä')
    assert path.read_text(encoding='utf-8') == replace_between(CPU, 'run cpu', 'ä')
