import re
import sys

import pytest
import torch

import activation
import train_step


@pytest.fixture
def start(monkeypatch):
    """Run a script in this process: importing the stack anew would take longer than the rest."""

    def run(module, *arguments):
        monkeypatch.setattr(sys, 'argv', [module.__file__, *map(str, arguments)])
        module.main()

    return run


@pytest.fixture
def document(repo_root, tmp_path):
    """A copy of the document that the figures go to."""
    path = tmp_path / 'performance.md'
    path.write_text((repo_root / 'docs' / 'performance.md').read_text(encoding='utf-8'))
    return path


@pytest.fixture
def refused(start, capsys):
    """Run a script that refuses its arguments and return what it prints."""

    def run(*arguments):
        with pytest.raises(SystemExit, match=r'[12]'):
            start(*arguments)
        return capsys.readouterr().err.rstrip()

    return run


def section(path, mark):
    """Return what stands between the marks of a section."""
    pattern = f'<!-- {mark} -->\n(.*)<!-- end of {mark} -->'
    return re.search(pattern, path.read_text(encoding='utf-8'), re.DOTALL)[1]


def test_feature_maps_are_printed_and_written_for_their_device_only(
    start, document, repo_root, capsys
):
    start(
        activation,
        *('--shapes', '2x8x6x4', '--rounds', 1, '--out', document),
        *('--activations', 'silu', 'published_aconc', 'aconc', 'metaacon'),
    )
    written = section(document, 'benchmark_activation cpu')
    printed = capsys.readouterr().out
    for case in ('float32, NCHW', 'bfloat16 (autocast), channels_last'):
        assert f'**2×8×6×4, {case}**' in printed
        assert f'**2×8×6×4, {case}**' in written
    assert '- Command: `python tools/benchmarks/activation.py --shapes' in written
    # One ratio for each layout, and the bytes that SiLU saves.
    assert re.search(r'^\| SiLU +\| +1\.00× / 1\.00× \| +1\.00 \|$', written, re.MULTILINE)
    mark = 'benchmark_activation cuda'
    assert section(document, mark) == section(repo_root / 'docs' / 'performance.md', mark)


@pytest.mark.parametrize(
    ('flags', 'mark', 'part'),
    [
        ((), 'benchmark_train_step cpu', '**ShuffleNetV2 0.5×**, 2 images of 64² per step'),
        (('--blocks',), 'benchmark_blocks cpu', 'ShuffleBlock of ShuffleNetV2 0.5×, 2×48×8×8'),
    ],
    ids=['steps', 'blocks'],
)
def test_networks_are_printed_and_written(start, document, capsys, flags, mark, part):
    start(
        train_step,
        *('--networks', 'shufflenetv2_0.5x', '--batch-size', 2, '--image-size', 64, *flags),
        *('--activations', 'relu', 'metaacon', '--rounds', 1, '--out', document),
    )
    assert part in capsys.readouterr().out
    assert part in section(document, mark)


def test_what_cannot_be_measured_is_refused_in_a_sentence(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    message = refused(activation, '--device', 'cuda')
    assert message == "error: device is 'cuda', but torch finds no such GPU; measure on 'cpu'"
    message = refused(activation, '--out', tmp_path / 'none.md')
    assert message.endswith('none.md is no file')
    message = refused(train_step, '--blocks', '--networks', 'retinanet_r50')
    assert message.endswith('none with a block to measure; use shufflenetv2_0.5x or resnet50')
    assert "invalid shape value: '1x2x3'" in refused(activation, '--shapes', '1x2x3')
