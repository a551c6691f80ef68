import importlib.util
import re
import sys

import pytest
import torch


@pytest.fixture
def start(repo_root, monkeypatch):
    """Run a script in this process: importing the stack anew would take longer than the rest."""

    def run(script, *arguments):
        path = repo_root / 'tools' / 'analysis_tools' / script
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        module.main()

    return run


@pytest.fixture
def document(repo_root, tmp_path):
    """A copy of the document that the figures go to."""
    path = tmp_path / 'performance.md'
    path.write_text((repo_root / 'docs' / 'performance.md').read_text(encoding='utf-8'))
    return path


@pytest.fixture
def refused(start):
    """Run a script that refuses its arguments and return what it prints."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            start(*arguments)
        return end.value.code

    return run


def section(path, mark):
    """Return what stands between the marks of a section."""
    pattern = f'<!-- {mark} -->\n(.*)<!-- end of {mark} -->'
    return re.search(pattern, path.read_text(encoding='utf-8'), re.DOTALL)[1]


def test_benchmark_activation_prints_its_tables_and_writes_them(
    start, document, repo_root, capsys
):
    start(
        'benchmark_activation.py',
        *('--shapes', '2x8x6x4', '--rounds', 1, '--out', document),
        *('--rows', 'silu', 'published_aconc', 'aconc', 'metaacon'),
    )
    written = section(document, 'benchmark_activation cpu')
    printed = capsys.readouterr().out
    for case in ('float32, NCHW', 'bfloat16 (autocast), channels_last'):
        assert f'**2×8×6×4, {case}**' in printed
        assert f'**2×8×6×4, {case}**' in written
    assert '- Command: `python tools/analysis_tools/benchmark_activation.py --shapes' in written
    assert written.index('**Forward and backward, float32**') < written.index('<details>')
    assert re.search(r'^\| SiLU +\| +1\.00× / 1\.00× \|$', written, re.MULTILINE)
    mark = 'benchmark_activation cuda'
    assert section(document, mark) == section(repo_root / 'docs' / 'performance.md', mark)


def test_benchmark_train_step_prints_its_tables_and_writes_them(
    start, document, repo_root, capsys
):
    start(
        'benchmark_train_step.py',
        *('--networks', 'shufflenetv2_0.5x', '--batch-size', 2, '--image-size', 32),
        *('--rows', 'relu', 'metaacon', '--rounds', 1, '--out', document),
    )
    table = '**ShuffleNetV2 0.5×**, 2 images of 32² a step, 1 rounds'
    assert table in capsys.readouterr().out
    assert table in section(document, 'benchmark_train_step cpu')
    mark = 'benchmark_blocks cpu'
    assert section(document, mark) == section(repo_root / 'docs' / 'performance.md', mark)


def test_benchmark_train_step_lists_what_blocks_keep(start, document, capsys):
    start(
        'benchmark_train_step.py',
        *('--blocks', '--networks', 'shufflenetv2_0.5x', '--batch-size', 2, '--image-size', 64),
        *('--rows', 'relu', 'aconc', '--out', document),
    )
    assert '**ShuffleBlock of ShuffleNetV2 0.5×, ACON-C**' in capsys.readouterr().out
    written = section(document, 'benchmark_blocks cpu')
    assert written.index('| Kept, MiB |') < written.index('branch_main.0.conv (the input of')


def test_the_number_of_threads_is_what_was_asked_for(start, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, 'set_num_threads', asked.append)
    case = ('--shapes', '1x2x3x4', '--dtypes', 'fp32', '--layouts', 'nchw', '--rows', 'silu')
    start('benchmark_activation.py', *case, '--rounds', 1, '--threads', 3)
    assert asked == [3]


def test_what_cannot_be_measured_is_refused_in_a_sentence(refused, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    message = refused('benchmark_activation.py', '--device', 'cuda')
    assert message == "error: device is 'cuda', but torch finds no such GPU; measure on 'cpu'"
    message = refused('benchmark_activation.py', '--out', tmp_path / 'none.md')
    assert message.endswith('which is no file')
    message = refused('benchmark_train_step.py', '--blocks', '--networks', 'retinanet_r50')
    assert message.endswith('of which no block is listed; use shufflenetv2_0.5x or resnet50')
    assert refused('benchmark_activation.py', '--shapes', '1x2x3') == 2
    assert "invalid shape value: '1x2x3'" in capsys.readouterr().err
