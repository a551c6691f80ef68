import re
import sys

import pytest
import torch

import activation
import measuring
import train_step


@pytest.fixture
def start(monkeypatch, capsys):
    """Run a script in this process: importing the stack anew would take longer than the rest."""

    def run(module, *arguments):
        monkeypatch.setattr(sys, 'argv', [module.__file__, *map(str, arguments)])
        module.main()
        return capsys.readouterr().out

    return run


def test_feature_maps_are_printed(start, monkeypatch):
    monkeypatch.setattr(activation, 'SHAPES', ((1, 8, 1, 1), (2, 8, 6, 4)))
    monkeypatch.setattr(activation, 'DTYPES', (torch.float32,))
    printed = start(
        activation, '--rounds', 1, '--activations', 'silu', 'published_aconc', 'metaacon'
    )
    assert printed.startswith(measuring.describe_machine('cpu'))
    assert '**inference, torch.float32, torch.channels_last**' in printed
    assert printed.count('2×8×6×4') == 4  # two phases, two layouts
    # The time of the reference, its ratio to itself, and the one map that SiLU saves.
    rows = re.findall(r'^\| silu +\|(?: +[\d.]+ 1\.00× \|){2} +1\.00 \|$', printed, re.MULTILINE)
    assert len(rows) == 4


def test_networks_are_printed(start, monkeypatch):
    small = train_step.NETWORKS[0]._replace(image_size=64)
    monkeypatch.setattr(train_step, 'NETWORKS', (small,))
    printed = start(
        train_step,
        *('--networks', 'shufflenetv2_0.5x_relu', '--batch-size', 2),
        *('--activations', 'relu', 'metaacon', '--rounds', 1),
    )
    assert '**shufflenetv2_0.5x_relu**, 2 images of 64² per step' in printed
    assert re.search(r'^\| metaacon +\| +[\d.]+ [\d.]+× \|', printed, re.MULTILINE)
