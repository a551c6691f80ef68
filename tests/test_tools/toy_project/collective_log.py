"""A hook that writes down every collective operation of a training.

It reads torch's flight recorder, in which each process group notes what it is asked for, by Python
or by DDP's C++ code. ``TORCH_FR_BUFFER_SIZE`` has to be set before the process group is made.
"""

import json
from math import prod
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

_BYTES = {'Byte': 1, 'Int': 4, 'Long': 8, 'Float': 4, 'Double': 8}


@HOOKS.register_module()
class CollectiveLog(Hook):
    """Write what was exchanged before the first step and in each step."""

    def __init__(self):
        self.ends = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not self.ends:
            self.ends.append(len(recorded()))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.ends.append(len(recorded()))

    def after_train(self, runner):
        starts = [0, *self.ends]
        found = recorded()
        parts = [found[a:b] for a, b in zip(starts, self.ends, strict=False)]
        path = Path(runner.work_dir, f'collectives_{runner.rank}.json')
        path.write_text(json.dumps({'steps': parts, 'after': found[self.ends[-1] :]}))


def recorded():
    """Return the operation and the bytes of each collective so far."""
    entries = json.loads(torch._C._distributed_c10d._dump_fr_trace_json())['entries']
    return [
        (
            entry['profiling_name'].removeprefix('gloo:'),
            sum(
                prod(size) * _BYTES[dtype]
                for size, dtype in zip(entry['input_sizes'], entry['input_dtypes'], strict=True)
            ),
        )
        for entry in entries
    ]
