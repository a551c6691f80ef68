import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

import measuring
from acon_mm.analysis.saved_memory import saved_bytes
from measuring import Spread, interleave, ratio, seconds_between, stamp


class Recorder:
    """Tasks that note their turn and take as long as they are told."""

    def __init__(self):
        self.turns = []

    def task(self, name, seconds):
        lengths = iter(seconds)

        def run():
            self.turns.append(name)
            return {'phase': next(lengths)}

        return run

    def tasks(self, **seconds):
        return {name: self.task(name, values) for name, values in seconds.items()}


def test_a_spread_is_the_20th_50th_and_80th_percentile():
    assert Spread.of(range(11)) == Spread(2, 5, 8, 11)
    assert Spread.of([3.0]) == Spread(3, 3, 3, 1)


def test_every_task_runs_once_per_round_and_the_first_round_does_not_count():
    recorder = Recorder()
    found = interleave(recorder.tasks(a=[100, 1, 2, 6], b=[100, 5, 5, 5]), rounds=3)
    rounds = [set(recorder.turns[i : i + 2]) for i in range(0, 8, 2)]
    assert rounds == [{'a', 'b'}] * 4
    assert list(found) == ['a', 'b']
    assert (found['a']['phase'].median, found['a']['phase'].count) == (2, 3)
    assert found['b']['phase'] == Spread(5, 5, 5, 3)


def test_no_task_always_follows_the_same_other_one():
    recorder = Recorder()
    names = 'abcd'
    interleave(recorder.tasks(**{n: [1] * 30 for n in names}), rounds=29)
    before = {name: set() for name in names}
    for index in range(0, 120, 4):
        for first, second in zip(
            recorder.turns[index : index + 3], recorder.turns[index + 1 : index + 4], strict=True
        ):
            before[second].add(first)
    assert all(before[name] == set(names) - {name} for name in names)


def test_a_slow_task_takes_part_in_every_third_round():
    recorder = Recorder()
    tasks = recorder.tasks(fast=[1] * 10, slow=[1] * 10)
    found = interleave(tasks, rounds=7, slow=['slow'])
    assert found['fast']['phase'].count == 7
    assert found['slow']['phase'].count == 3


@pytest.mark.parametrize(('least', 'most', 'rounds'), [(2, 9, 5), (7, 9, 7), (2, 4, 4)])
def test_time_ends_the_rounds_between_the_least_and_the_most(monkeypatch, least, most, rounds):
    monkeypatch.setattr(measuring, 'MIN_ROUNDS', least)
    seconds = 0

    def task():
        nonlocal seconds
        seconds += 1
        return {'phase': 1}

    found = interleave({'a': task}, most, seconds=5, now=lambda: seconds)
    assert found['a']['phase'].count == rounds


def test_the_garbage_collector_rests_while_tasks_run_and_works_again_after_an_error():
    states = []

    def task():
        states.append(gc.isenabled())
        raise KeyError('task')

    assert gc.isenabled()
    with pytest.raises(KeyError, match='task'):
        interleave({'a': task}, rounds=1)
    assert states == [False]
    assert gc.isenabled()


def test_the_clock_of_a_gpu_waits_for_its_events_and_counts_seconds(monkeypatch):
    class Event:
        moment = 0.0

        def __init__(self, enable_timing):
            assert enable_timing
            self.waited_for = False

        def record(self):
            Event.moment += 1500
            self.milliseconds = Event.moment

        def synchronize(self):
            self.waited_for = True

        def elapsed_time(self, end):
            assert end.waited_for
            return end.milliseconds - self.milliseconds

    monkeypatch.setattr(torch.cuda, 'Event', Event)
    assert seconds_between(stamp('cuda'), stamp('cuda')) == 1.5


def test_a_ratio_is_that_of_the_medians_and_needs_both():
    times = {'silu': {'both': Spread(1, 2, 9, 5)}, 'aconc': {'both': Spread(1, 3, 4, 5)}}
    assert ratio(times, 'aconc', 'silu', 'both') == 1.5
    assert ratio(times, 'aconc', 'relu', 'both') is None
    assert ratio(times, 'relu', 'silu', 'both') is None


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


PAGE_FAULTS = """
import resource, sys, torch
from measuring import keep_freed_memory
if sys.argv[1] == 'keep':
    keep_freed_memory()
for _ in range(20):  # until the heap has its size
    torch.ones(10 * 2**20)  # more than the 32 MB up to which glibc may use its heap by itself
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(10 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again_without_page_faults():
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, '-c', PAGE_FAULTS, how],
                cwd=Path(measuring.__file__).parent,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()[-1]
        )
        for how in ('keep', 'system')
    }
    assert 4 * faults['keep'] < faults['system']
