import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

from acon_mm.analysis.benchmark_memory import kept_bytes, kept_tensors, peak_bytes

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
    'a slice, which keeps the whole': (lambda x: (x + 1)[:, 0] ** 2, 1),
    'what is thrown away': (lambda x: (x.exp().exp(), x + 1)[1], 0),
}


@pytest.mark.parametrize('name', COUNTS)
def test_a_graph_keeps_what_its_derivative_needs_and_each_storage_once(name):
    function, maps = COUNTS[name]
    x = leaf()
    assert kept_bytes(lambda: function(x), nn.Identity()) == maps * N


def test_parameters_and_buffers_do_not_count():
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    x = leaf()
    kept = kept_tensors(lambda: module(x), module)
    # Both inputs, and the mean and the inverse deviation that the norm computed.
    assert [k.shape for k in kept] == [SHAPE, SHAPE, (3,), (3,)]
    assert sum(k.nbytes for k in kept) == kept_bytes(lambda: module(x), module) == 2 * N + 2 * 12


def test_the_submodule_that_saved_a_tensor_is_named_and_two_may_share_it():
    module = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Sequential(nn.Conv2d(3, 3, 1), nn.SiLU())
    )
    kept = kept_tensors(lambda: module(leaf()), module, name_savers=True)
    assert [k.savers for k in kept] == [('0',), ('1', '2.0'), ('2.1',)]
    assert not any(child._forward_hooks for child in module.modules())


def test_counting_leaves_nothing_in_memory():
    kept = []

    def function():
        y = leaf().sigmoid()  # a result, which autograd hands to the hooks with its graph
        kept.append(weakref.ref(y.untyped_storage()))
        return y * 2

    assert kept_bytes(function, nn.Identity()) == N
    assert kept[0]() is None


def test_the_peak_is_what_is_alive_at_once():
    x = torch.rand(1000)

    def function():
        y = x.exp()
        z = y.exp()
        del y
        return z.exp() + z.exp()

    # Twice z.exp(), their sum and z.
    assert peak_bytes(function, 'cpu') == 4 * 4000
    assert peak_bytes(lambda: x.view(10, 100), 'cpu') == 0


def test_the_peak_on_a_gpu_is_what_is_there_beyond_what_was_before(monkeypatch):
    calls = []
    for name, value in (
        ('synchronize', None),
        ('reset_peak_memory_stats', None),
        ('memory_allocated', 100),
        ('max_memory_allocated', 350),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda n=name, v=value: (calls.append(n), v)[1])
    assert peak_bytes(lambda: calls.append('function'), 'cuda') == 250
    assert calls.index('reset_peak_memory_stats') < calls.index('function')
    assert calls[-2:] == ['synchronize', 'max_memory_allocated']


KEEPS = """
import ctypes, resource, sys, torch
from acon_mm.analysis.benchmark_memory import keep_freed_memory
if sys.argv[1] == 'keep':
    assert keep_freed_memory()
for _ in range(3):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_kept_memory_is_used_again_without_page_faults():
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, '-c', KEEPS, how], capture_output=True, text=True, check=True
            ).stdout.split()[-1]
        )
        for how in ('keep', 'system')
    }
    assert 4 * faults['keep'] < faults['system']
