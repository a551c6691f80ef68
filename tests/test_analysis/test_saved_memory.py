import weakref

import pytest
import torch
from torch import nn

from acon_mm.analysis.saved_memory import saved_bytes

SHAPE = (2, 3, 4, 5)
N = 2 * 3 * 4 * 5 * 4  # bytes of a float32 map


def leaf():
    return torch.rand(SHAPE, requires_grad=True)


# What the derivative needs: of a sum nothing, of exp its result, of a product both factors.
COUNTS = {
    'a sum': (lambda x: x + 1, 0),
    'exp': (torch.exp, 1),
    'exp of exp': (lambda x: x.exp().exp(), 2),
    'x times x': (lambda x: x * x, 1),
    'x times exp(x)': (lambda x: x * x.exp(), 2),
    'a ReLU in place': (lambda x: (x + 1).relu_(), 1),
    'a SiLU': (lambda x: nn.functional.silu(x + 1), 1),
    'a slice, which saves the whole': (lambda x: (x + 1)[:, 0] ** 2, 1),
    'what is thrown away': (lambda x: (x.exp().exp(), x + 1)[1], 0),
}


@pytest.mark.parametrize('name', COUNTS)
def test_a_graph_saves_what_its_derivative_needs_and_each_storage_once(name):
    function, maps = COUNTS[name]
    x = leaf()
    assert saved_bytes(lambda: function(x), nn.Identity()) == maps * N


def test_parameters_and_buffers_do_not_count():
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    x = leaf()
    # Both inputs, and the mean and the inverse deviation that the norm computed.
    assert saved_bytes(lambda: module(x), module) == 2 * N + 2 * 12


def test_counting_leaves_nothing_in_memory():
    results = []

    def function():
        y = leaf().sigmoid()  # a result, which autograd hands to the hooks with its graph
        results.append(weakref.ref(y.untyped_storage()))
        return y * 2

    assert saved_bytes(function, nn.Identity()) == N
    assert results[0]() is None
