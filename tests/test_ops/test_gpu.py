"""The properties of `gpu_properties`, on a GPU and, by the same lines, on the CPU."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from gpu_properties import PROPERTIES, NotHere


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
@pytest.mark.parametrize('holds', PROPERTIES, ids=lambda function: function.__name__)
def test_a_device(holds, device):
    try:
        holds(device)
    except NotHere as error:
        pytest.skip(str(error))
