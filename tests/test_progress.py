"""Without a terminal a few plain lines tell how far the work is; with one, a bar does."""

import io
import sys

import pytest

from acon_mm.progress import LINES, track


@pytest.mark.parametrize('total', [0, 1, 3, 10, 100])
def test_plain_lines_end_with_the_last_item(capsys, total):
    assert list(track(range(total), 'Reading')) == list(range(total))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == min(total, LINES)
    assert not lines or lines[-1] == f'Reading: {total}/{total}'


def test_items_without_a_length_are_passed_on_in_silence(capsys):
    assert list(track(iter('abc'), 'Reading')) == ['a', 'b', 'c']
    assert capsys.readouterr().err == ''


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setattr(sys, 'stderr', terminal)
    assert list(track([1, 2], 'Reading')) == [1, 2]
    assert 'Reading' in terminal.getvalue()
    assert '100%' in terminal.getvalue()
