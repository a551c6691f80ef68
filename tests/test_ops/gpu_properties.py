"""What has to hold on a GPU, as functions of a device that need torch and the operators alone.

`test_gpu.py` runs them as tests, on the CPU too where they can, so that the same lines have been
executed before somebody has a GPU. `tools/benchmarks/gpu_acceptance.py` runs them without pytest.
"""

import copy
import os
import tempfile
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from acon_mm.ops import acon, backend_report, pixel_wise_acon
from acon_mm.ops.norm_act import (
    Activation,
    Norm,
    NormedLayer,
    can_compute_norm_act,
    may_compute_norm_act,
    norm_act,
)

ALONE = ('acon', 'per_sample', 'pixel_wise')
WITH_NORM = ('relu', 'acon', 'channel_wise', 'layer_wise')
# Planes of an odd size, small ones of many samples, and channels that fill no vector.
SHAPES = [(3, 6, 9, 11), (17, 5, 7, 7), (4, 24, 8, 8)]
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3, torch.float64: 1e-9}


class NotHere(Exception):  # noqa: N818
    """A property does not apply to a device; the message says why."""


def kinds(device):
    """Return the kinds, and whether a norm is before them, that a device has operators for."""
    alone = [(kind, False) for kind in ALONE]
    if not may_compute_norm_act(torch.ones(SHAPES[0], device=device)):
        return alone
    return [*alone, ('channel_wise', False), *((kind, True) for kind in WITH_NORM)]


class Unit(nn.Module):
    """An activation, after a batch norm or not, by acon_mm or as the paper writes it."""

    def __init__(self, kind, with_norm, shape):
        super().__init__()
        torch.manual_seed(0)
        samples, channels = shape[:2]
        self.kind = kind
        self.norm = nn.BatchNorm2d(channels) if with_norm else None
        of_kind = {
            'relu': [],
            'acon': [(channels,)] * 3,
            'per_sample': [(channels,), (channels,), (samples, channels)],
        }
        sizes = of_kind.get(kind, [(channels,)] * 2)
        self.params = nn.ParameterList([torch.randn(size) for size in sizes])
        self.layers = nn.ModuleList()
        if kind == 'channel_wise':
            for inputs, outputs in ((channels, 4), (4, channels)):
                self.layers.append(nn.Conv2d(inputs, outputs, 1))
                self.layers.append(nn.BatchNorm2d(outputs))

    def describe(self):
        n = self.norm
        norm = n and Norm(
            n.weight, n.bias, n.running_mean, n.running_var, n.momentum, n.eps, self.training
        )
        layers = [
            NormedLayer(
                *(fc.weight, fc.bias, bn.weight, bn.bias, bn.running_mean, bn.running_var),
                *(bn.momentum, bn.eps),
            )
            for fc, bn in zip(self.layers[::2], self.layers[1::2], strict=True)
        ]
        batch = self.training and bool(layers)
        return norm, Activation(self.kind, tuple(self.params), tuple(layers), batch)

    def forward(self, x):
        if self.norm is None and self.kind in ALONE:
            return (pixel_wise_acon if self.kind == 'pixel_wise' else acon)(x, *self.params)
        norm, act = self.describe()
        if not can_compute_norm_act(x, norm, act):
            assert x.dtype == torch.float64, 'norm and activation are not computed together'
            return self.as_written(x)
        return norm_act(x, norm, act)

    def as_written(self, x):
        y = x if self.norm is None else self.norm(x)
        if self.kind == 'relu':
            return torch.relu(y)
        p1, p2, *beta = (p[..., None, None] for p in self.params)
        if self.kind == 'pixel_wise':
            beta = [torch.sigmoid(y)]
        if not beta:
            hidden = y.mean((2, 3), keepdim=True)
            if self.kind == 'layer_wise':
                hidden = hidden.sum(1, keepdim=True)
            for layer in self.layers:
                hidden = layer(hidden)
            beta = [torch.sigmoid(hidden)]
        d = p1 - p2
        return d * y * torch.sigmoid(beta[0] * d * y) + p2 * y


def draw(shape, device, dtype=torch.float32, layout=torch.contiguous_format):
    """Return a map and a gradient."""
    dice = torch.Generator().manual_seed(1)
    tensors = (torch.randn(shape, generator=dice, dtype=torch.float64) for _ in range(2))
    return [t.to(device, dtype, memory_format=layout) for t in tensors]


def results(unit, x, g, call=None):
    """Return the value, all gradients and the running statistics of a fresh copy."""
    unit = copy.deepcopy(unit)
    x = x.detach().requires_grad_()
    y = unit(x) if call is None else call(unit, x)
    y.backward(g.to(y.dtype))
    grads = {name: p.grad for name, p in unit.named_parameters()}
    running = {k: v for k, v in unit.named_buffers() if 'batches' not in k}
    return {'y': y.detach(), 'x': x.grad, **grads, **running}


def assert_near(found, expected, rounding):
    """Compare with the largest element: some gradients before a norm are 0, their terms not."""
    scales = {name: value.abs().max().item() for name, value in expected.items()}
    common = max(scales.values())
    for name, value in expected.items():
        error = (found[name].double() - value.double()).abs().max().item()
        allowed = rounding * (1e-3 + max(scales[name], 0 if name in 'xy' else 0.1 * common))
        assert error <= allowed, f'{name}: the error is {error:.2g}, allowed are {allowed:.2g}'


@contextmanager
def determinism():
    """Switch deterministic algorithms on."""
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def values_and_gradients_are_those_of_the_paper(device):
    """Fused equals unfused, in training and evaluation, running statistics included."""
    if device == 'cuda':
        assert 'cuda: Triton kernels' in backend_report(), backend_report()
    for kind, with_norm in kinds(device):
        for i, (dtype, rounding) in enumerate(ROUNDING.items()):
            shape = SHAPES[i % len(SHAPES)]
            for layout in (torch.contiguous_format, torch.channels_last):
                for training in (True, False):
                    if not with_norm and not training:
                        continue
                    unit = Unit(kind, with_norm, shape).train(training).to(device)
                    if dtype == torch.float64:
                        unit.double()
                    x, g = draw(shape, device, dtype, layout)
                    found = results(unit, x, g)
                    wide = copy.deepcopy(unit).double()
                    right = results(wide, x.double(), g.double(), Unit.as_written)
                    assert found['y'].dtype == dtype == found['x'].dtype
                    # Norms of a few means inside Meta-ACON enlarge roundings.
                    assert_near(found, right, rounding * (5 if kind == 'channel_wise' else 1))


def gradients_are_those_of_finite_differences(device):
    """Float64, the second derivatives too."""
    for kind, with_norm in kinds(device):
        shape = (3, 5, 2, 3)
        unit = Unit(kind, with_norm, shape).to(device).double()
        x, _ = draw(shape, device, torch.float64)
        names, params = zip(*unit.named_parameters(), strict=True)

        def call(x, *params, unit=unit, names=names):
            running = {name: buffer.clone() for name, buffer in unit.named_buffers()}
            named = dict(zip(names, params, strict=True))
            return functional_call(unit, {**named, **running}, (x,))

        inputs = [t.detach().clone().requires_grad_() for t in (x, *params)]
        assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def autocast_changes_the_dtype_of_the_map_alone(device):
    """Parameters, sums and the small network stay float32."""
    for kind, with_norm in kinds(device):
        unit = Unit(kind, with_norm, SHAPES[0]).to(device)
        x, g = draw(SHAPES[0], device, torch.bfloat16)
        plain = results(unit, x, g)
        with torch.autocast(device, torch.bfloat16):
            found = results(unit, x, g)
        for name, value in plain.items():
            assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def a_map_keeps_its_layout(device):
    """Channels-last maps, slices of their channels and strided ones come back as SiLU's do."""
    if len(kinds(device)) == len(ALONE):
        raise NotHere('plain operations give a gradient the layout of the one that comes in')
    shape = (3, 8, 9, 11)
    for kind, with_norm in kinds(device):
        if kind == 'pixel_wise' and device == 'cpu':
            continue  # plain operations there, too
        unit = Unit(kind, with_norm, shape).to(device)
        x, g = draw(shape, device)
        wide = torch.cat([x, x], 1).contiguous(memory_format=torch.channels_last)
        right = results(unit, x, g)
        for strange in (wide[:, 8:], wide[:, :8], torch.stack([x, x], -1)[..., 0]):
            leaf = strange.detach().requires_grad_()
            y = copy.deepcopy(unit)(leaf)
            (dx,) = torch.autograd.grad(y, leaf, g)
            assert y.stride() == dx.stride() == F.silu(strange).stride()
            assert_near({'y': y, 'x': dx}, {n: right[n] for n in 'yx'}, 1e-4)


def two_runs_give_the_same_bits(device):
    """Nothing is added atomically."""
    shape = (8, 24, 133, 131) if device == 'cuda' else SHAPES[0]
    for deterministic in (False, True):
        for kind, with_norm in kinds(device):
            unit = Unit(kind, with_norm, shape).to(device)
            x, g = draw(shape, device)
            with determinism() if deterministic else nullcontext():
                one, two = results(unit, x, g), results(unit, x, g)
            for name, value in one.items():
                assert torch.equal(value, two[name]), (kind, name)


def a_scaled_loss_in_half_precision_has_the_same_gradients(device):
    """float16, autocast and a GradScaler that starts at 8192."""
    for kind, with_norm in kinds(device):
        found = {}
        for half in (False, True):
            unit = Unit(kind, with_norm, SHAPES[1]).to(device)
            x, g = draw(SHAPES[1], device)
            optimizer = torch.optim.SGD(unit.parameters(), lr=1.0)
            scaler = torch.amp.GradScaler(device, init_scale=8192.0, enabled=half)
            with torch.autocast(device, torch.float16, enabled=half):
                y = unit(x.half() if half else x)
            loss = (y.float() * g).mean()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            found[half] = {name: p.grad for name, p in unit.named_parameters()}
            assert scaler.get_scale() == (8192.0 if half else 1.0)
        names = [name for name in found[True] if found[False][name].abs().max() > 1e-6]
        pairs = [{name: found[half][name] * 1e3 for name in names} for half in (True, False)]
        if names:
            assert_near(*pairs, 2e-2)


def activation_checkpointing_changes_nothing(device):
    """Values and gradients, in both variants of torch."""
    for kind, with_norm in kinds(device):
        unit = Unit(kind, with_norm, SHAPES[0]).to(device)
        x, g = draw(SHAPES[0], device)
        right = results(unit, x, g)
        for reentrant in (False, True):
            found = results(
                unit, x, g, lambda own, x, r=reentrant: checkpoint(own, x, use_reentrant=r)
            )
            for name in right:
                if 'running' not in name:  # torch's norms update them twice as well
                    assert torch.equal(found[name], right[name]), name


def a_compiled_activation_is_the_same(device):
    """One graph, without a break. Inductor on a GPU, its tracer alone on the CPU."""
    on_gpu = device == 'cuda'
    backend = 'inductor' if on_gpu else 'aot_eager'
    for kind in ALONE:
        unit = Unit(kind, False, SHAPES[2]).to(device)
        compiled = torch.compile(Unit.forward, backend=backend, fullgraph=True)
        for dtype in (torch.float32, torch.bfloat16) if on_gpu else (torch.bfloat16,):
            x, g = draw(SHAPES[2], device, dtype)
            assert_near(results(unit, x, g, compiled), results(unit, x, g), ROUNDING[dtype])
    torch.compiler.reset()


def no_call_waits_for_the_device(device):
    """Under torch's own alarm for synchronisations, on a GPU."""
    for kind, with_norm in kinds(device):
        unit = Unit(kind, with_norm, SHAPES[0]).to(device)
        x, g = draw(SHAPES[0], device)
        x.requires_grad_()
        for alarm in ('default', 'error'):  # the first call compiles
            if device == 'cuda':
                torch.cuda.set_sync_debug_mode(alarm)
            try:
                unit(x).backward(g)
            finally:
                if device == 'cuda':
                    torch.cuda.set_sync_debug_mode('default')


def a_captured_graph_replays_new_inputs(device):
    """Forward and backward in one CUDA graph."""
    if device != 'cuda':
        raise NotHere('only a CUDA device captures graphs')
    for kind, with_norm in kinds(device):
        unit = Unit(kind, with_norm, SHAPES[0]).to(device)
        x, g = draw(SHAPES[0], device)
        own, static = copy.deepcopy(unit), torch.zeros_like(x).requires_grad_()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                own(static).backward(g)
        torch.cuda.current_stream().wait_stream(side)
        own.load_state_dict(unit.state_dict())
        static.grad = None
        own.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = own(static)
            y.backward(g)
        with torch.no_grad():
            static.copy_(x)
        graph.replay()
        found = {'y': y.detach(), 'x': static.grad}
        found |= {name: p.grad for name, p in own.named_parameters()}
        right = results(unit, x, g)
        assert_near(found, {name: right[name] for name in found}, 1e-5)


def another_stream_and_device_do_the_same(device):
    """A stream that is not the default one, and a device that is not the current one."""
    if device != 'cuda':
        raise NotHere('only a CUDA device has streams')
    last = torch.device('cuda', torch.cuda.device_count() - 1)
    for kind, with_norm in kinds(device):
        unit = Unit(kind, with_norm, SHAPES[0])
        x, g = draw(SHAPES[0], 'cpu')
        right = results(unit.to('cuda:0'), x.to('cuda:0'), g.to('cuda:0'))
        stream = torch.cuda.Stream(last)
        stream.wait_stream(torch.cuda.default_stream(last))
        unit, x, g = unit.to(last), x.to(last), g.to(last)
        torch.cuda.synchronize(last)
        with torch.cuda.stream(stream), torch.cuda.device(0):
            found = results(unit, x, g)
        torch.cuda.synchronize(last)
        assert_near(found, {name: value.to(last) for name, value in right.items()}, 1e-5)


def data_parallel_training_has_the_gradients_of_the_whole_batch(device):
    """DistributedDataParallel, two processes where there are two devices, else one."""
    ranks = 2 if device == 'cuda' and torch.cuda.device_count() > 1 else 1
    with tempfile.TemporaryDirectory() as folder:
        if ranks == 1:
            train_in_parallel(0, ranks, device, folder)
        else:
            torch.multiprocessing.spawn(train_in_parallel, (ranks, device, folder), ranks)


def train_in_parallel(rank, ranks, device, folder):
    """Compare the averaged gradients with those of one process, in one process of several."""
    own = torch.device(device, rank) if device == 'cuda' else torch.device(device)
    if device == 'cuda':
        torch.cuda.set_device(own)
    backend = 'nccl' if device == 'cuda' else 'gloo'
    store = dist.FileStore(str(Path(folder) / 'store'), ranks)
    dist.init_process_group(backend, rank=rank, world_size=ranks, store=store)
    try:
        for kind, with_norm in kinds(device):
            if kind == 'per_sample':
                continue  # a parameter of all samples
            unit = Unit(kind, with_norm, (4, 24, 8, 8)).to(own)
            unit = unit.to(memory_format=torch.channels_last)
            x, g = draw((4 * ranks, 24, 8, 8), own, layout=torch.channels_last)
            parts = [results(unit, x[4 * i :][:4], g[4 * i :][:4]) for i in range(ranks)]
            names = [name for name, _ in unit.named_parameters()]
            mean = {name: sum(part[name] for part in parts) / ranks for name in names}
            with warnings.catch_warnings():
                warnings.filterwarnings('error', 'Grad strides do not match')
                parallel = DistributedDataParallel(copy.deepcopy(unit))
                parallel(x[4 * rank :][:4]).backward(g[4 * rank :][:4])
            found = {name: p.grad for name, p in parallel.module.named_parameters()}
            assert_near(found, mean, 1e-5)
            for p in parallel.module.parameters():
                assert p.grad.stride() == p.stride()
    finally:
        dist.destroy_process_group()


PROPERTIES = (
    values_and_gradients_are_those_of_the_paper,
    gradients_are_those_of_finite_differences,
    autocast_changes_the_dtype_of_the_map_alone,
    a_map_keeps_its_layout,
    two_runs_give_the_same_bits,
    a_scaled_loss_in_half_precision_has_the_same_gradients,
    activation_checkpointing_changes_nothing,
    a_compiled_activation_is_the_same,
    no_call_waits_for_the_device,
    a_captured_graph_replays_new_inputs,
    another_stream_and_device_do_the_same,
    data_parallel_training_has_the_gradients_of_the_whole_batch,
)
