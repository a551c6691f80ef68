"""Synchronised norms in two processes train as plain ones in one process with the whole batch.

Run as a script, this file is one of the two processes.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm
from torch import distributed, nn

from acon_mm.models import AconC, MetaAcon
from acon_mm.models.layers import norm_act
from acon_mm.ops import cpu_kernel, triton_norm
from acon_mm.ops import norm_act as operator

needs_cpu_kernel = pytest.mark.skipif(
    not operator.may_compute_norm_act(torch.ones(1, 1, 2, 2)),
    reason='the CPU kernel is not active, see acon_mm.ops.backend_report()',
)
KERNELS = {'cpu': cpu_kernel} | ({'triton': triton_norm} if find_spec('triton') else {})
C = 8
# The samples of the first process in each step; the second one has the others of 8.
SHARES = [4, 3, 7, 8, 0]
# The momentum of the norms and the layout of the maps.
CASES = [(0.1, torch.contiguous_format), (None, torch.channels_last)]


class Net(nn.Module):
    """Norm and Meta-ACON, norm and ACON-C, norm and ReLU, and Meta-ACON without a norm before."""

    def __init__(self, norm, momentum):
        super().__init__()
        cfg = dict(type='BN' if norm is nn.BatchNorm2d else 'SyncBN')
        acts = [
            MetaAcon(C, norm_cfg=cfg, init='normal'),
            AconC(C, init='normal'),
            nn.ReLU(inplace=True),
            MetaAcon(C, norm_cfg=cfg, init='normal'),
        ]
        self.convs = nn.ModuleList(nn.Conv2d(C if i else 3, C, 3, bias=False) for i in range(4))
        self.norms = nn.ModuleList(norm(C, momentum=momentum) for _ in range(3))
        self.norms.append(nn.Identity())
        self.acts = nn.ModuleList(acts)

    def forward(self, x):
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            x = norm_act(norm, act, conv(x))
        return x


def train(norm, momentum, layout, rank=None):
    """Return the state after a step for each of SHARES and what each step changed at most."""
    torch.manual_seed(0)
    net, changes = Net(norm, momentum), []
    for own in SHARES:
        x, g = torch.randn(8, 3, 12, 11), torch.randn(8, C, 4, 3)
        part = slice(None) if rank is None else slice(own) if rank == 0 else slice(own, None)
        y = net(x[part].contiguous(memory_format=layout))
        net.zero_grad()
        y.backward(g[part] / 100)
        for p in net.parameters():
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            if rank is not None:
                distributed.all_reduce(grad)
            p.data -= 0.1 * grad
            changes.append(0.1 * grad.abs().max().item())
    return net.state_dict(), max(changes)


def record(calls):
    """Write down the operation and the bytes of every exchange."""
    for name, index in (('all_gather', 1), ('all_reduce', 0)):
        plain = getattr(distributed, name)

        def call(*args, name=name, plain=plain, index=index, **kwargs):
            calls.append((name, args[index].nbytes))
            return plain(*args, **kwargs)

        setattr(distributed, name, call)


def why_not_differentiated_twice():
    norm = SyncBatchNorm(C)
    x = torch.randn(4, C, 3, 3, requires_grad=True)
    try:
        torch.autograd.grad(norm_act(norm, AconC(C), x).sum(), x, create_graph=True)
    except RuntimeError as error:
        return str(error)


def work(rank, folder):
    distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    calls, plain = [], (distributed.all_gather, distributed.all_reduce)
    for name, kernel in KERNELS.items():
        operator.KERNELS[cpu_kernel] = kernel
        cases = CASES if kernel is cpu_kernel else CASES[:1]  # the interpreter is slow
        trained = [train(SyncBatchNorm, *case, rank) for case in cases]
        # In the second process a batch without samples.
        record(calls)
        x = torch.randn((5, 0)[rank], C, 4, 4, requires_grad=True)
        act = MetaAcon(C, norm_cfg=dict(type='SyncBN'))
        norm_act(SyncBatchNorm(C), act, x).sum().backward()
        distributed.all_gather, distributed.all_reduce = plain
        found = [trained, calls.copy(), x.grad, act.bn1.num_batches_tracked.item()]
        calls.clear()
        torch.save([*found, why_not_differentiated_twice()], f'{folder}/{name}_{rank}.pt')
    distributed.destroy_process_group()


@pytest.fixture(scope='module')
def group(tmp_path_factory):
    """Run both processes and return the folder of what they found."""
    folder = tmp_path_factory.mktemp('group')
    env = os.environ | {'OMP_NUM_THREADS': '1', 'TRITON_INTERPRET': '1'}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), folder], env=env, stderr=subprocess.PIPE
        )
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            message = process.communicate(timeout=300)[1].decode()
            assert process.returncode == 0, message[-3000:]
    finally:
        for process in processes:
            process.kill()
    return folder


@pytest.fixture(params=KERNELS)
def found(request, group):
    """Return what each process found with a kernel."""
    return [torch.load(group / f'{request.param}_{rank}.pt') for rank in (0, 1)]


@needs_cpu_kernel
def test_two_processes_have_the_weights_of_one_with_the_whole_batch(found):
    for trained, *_ in found:
        for case, (state, _) in zip(CASES, trained, strict=False):
            expected, change = train(nn.BatchNorm2d, *case)
            assert change > 1e-3  # a hundred times what may differ
            assert state.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(state[name], value, rtol=0, atol=1e-5, msg=name)


@needs_cpu_kernel
def test_each_norm_exchanges_once_in_each_direction_what_torch_exchanges(found):
    widths = [C, 16, C]  # the norm, and the two inside
    expected = [('all_gather', 4 * (2 * c + 1)) for c in widths]
    expected += [('all_reduce', 4 * 2 * c) for c in reversed(widths)]
    for _, calls, *_ in found:
        assert calls == expected


@needs_cpu_kernel
def test_a_process_without_samples_takes_part(found):
    for rank, (_, _, grad, batches, _) in enumerate(found):
        assert grad.shape == ((5, 0)[rank], C, 4, 4)
        assert grad.isfinite().all()
        assert batches == 1


@needs_cpu_kernel
def test_a_second_derivative_is_refused_in_a_sentence(found):
    for of_process in found:
        assert 'synchronised over processes cannot be differentiated again' in of_process[-1]


if __name__ == '__main__':
    work(int(sys.argv[1]), sys.argv[2])
