import torch

from acon_mm import ops
from acon_mm.analysis.provenance import describe_run


def test_the_head_says_command_machine_versions_and_operator(monkeypatch):
    monkeypatch.setattr(ops, 'backend_report', lambda: 'cpu: kernel\ncuda: none')
    command = ['/home/somebody/acon_mm/tools/benchmarks/activation.py', '--shapes', 'a b']
    lines = describe_run('cpu', command).splitlines()
    assert lines[0] == "- Command: `python tools/benchmarks/activation.py --shapes 'a b'`"
    assert f'{torch.get_num_threads()}' in lines[1]
    assert f'torch {torch.__version__.split("+")[0]}' in lines[2]
    assert lines[3] == '- Operator: cpu: kernel; cuda: none'
