import gc

import pytest
import torch

from acon_mm.analysis.benchmark_timing import (
    CpuClock,
    CudaClock,
    Plan,
    Spread,
    clock_of,
    interleave,
)


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


def test_every_task_runs_once_a_round_and_warm_up_does_not_count():
    recorder = Recorder()
    found = interleave(
        recorder.tasks(a=[100, 1, 2, 6], b=[100, 5, 5, 5]), Plan(rounds=3, warm_up=1)
    )
    rounds = [set(recorder.turns[i : i + 2]) for i in range(0, 8, 2)]
    assert rounds == [{'a', 'b'}] * 4
    assert list(found) == ['a', 'b']
    assert (found['a']['phase'].median, found['a']['phase'].count) == (2, 3)
    assert found['b']['phase'] == Spread(5, 5, 5, 3)


def test_no_task_always_follows_the_same_other_one():
    recorder = Recorder()
    names = 'abcd'
    interleave(recorder.tasks(**{n: [1] * 30 for n in names}), Plan(rounds=30, warm_up=0))
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
    found = interleave(tasks, Plan(rounds=7, warm_up=0), every={'slow': 3})
    assert found['fast']['phase'].count == 7
    assert found['slow']['phase'].count == 3


@pytest.mark.parametrize(
    ('plan', 'rounds'),
    [
        (Plan(rounds=9, min_rounds=2, seconds=5, warm_up=0), 5),
        (Plan(rounds=9, min_rounds=7, seconds=5, warm_up=0), 7),
        (Plan(rounds=4, min_rounds=2, seconds=5, warm_up=0), 4),
    ],
)
def test_time_ends_the_rounds_between_the_smallest_and_the_largest_number(plan, rounds):
    seconds = 0

    def task():
        nonlocal seconds
        seconds += 1
        return {'phase': 1}

    assert interleave({'a': task}, plan, now=lambda: seconds)['a']['phase'].count == rounds


def test_the_garbage_collector_rests_while_tasks_run_and_works_again_after_an_error():
    states = []

    def task():
        states.append(gc.isenabled())
        raise KeyError('task')

    assert gc.isenabled()
    with pytest.raises(KeyError, match='task'):
        interleave({'a': task}, Plan(rounds=1))
    assert states == [False]
    assert gc.isenabled()


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match='rounds must be a positive integer, but it is 0'):
        Plan(rounds=0)


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
    clock = clock_of('cuda')
    assert isinstance(clock, CudaClock)
    assert clock.seconds(clock.stamp(), clock.stamp()) == 1.5


def test_the_clock_of_a_cpu_does_not_run_backwards():
    clock = clock_of('cpu')
    assert isinstance(clock, CpuClock)
    assert clock.seconds(clock.stamp(), clock.stamp()) >= 0
    assert clock.seconds(2.0, 5.0) == 3.0
