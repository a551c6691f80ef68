import gc

import pytest
import torch

from acon_mm import ops
from measuring import describe_machine, interleave, seconds_between, stamp, timing


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


def test_every_task_runs_once_per_round_and_the_first_round_does_not_count():
    recorder = Recorder()
    found = interleave(recorder.tasks(a=[100, 1, 2, 6], b=[100, 5, 5, 5]), rounds=3)
    rounds = [set(recorder.turns[i : i + 2]) for i in range(0, 8, 2)]
    assert rounds == [{'a', 'b'}] * 4
    assert found == {'a': {'phase': 2}, 'b': {'phase': 5}}
    assert list(found) == ['a', 'b']


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


def test_a_timing_is_in_milliseconds_with_the_ratio_to_the_first_task():
    medians = {'silu': {'both': 0.002}, 'aconc': {'both': 0.003}}
    assert timing(medians, 'silu', 'both') == '2.000 1.00×'
    assert timing(medians, 'aconc', 'both') == '3.000 1.50×'


def test_the_head_says_machine_versions_and_operator(monkeypatch):
    monkeypatch.setattr(ops, 'backend_report', lambda: 'cpu: kernel\ncuda: none')
    machine, versions, operator = describe_machine('cpu').splitlines()
    assert f'{torch.get_num_threads()} threads' in machine
    assert f'torch {torch.__version__.split("+")[0]}' in versions
    assert operator == '- Operator: cpu: kernel; cuda: none'
