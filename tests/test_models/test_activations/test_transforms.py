"""Activations and blocks that are compiled, exported, scripted, traced, copied and distributed."""

import copy
import io
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.func import functional_call, grad, vmap

from acon_mm.models import AconA, AconB, AconC, AconFReLU, MetaAcon
from acon_mm.models.backbones.resnet_blocks import AconBottleneck
from acon_mm.models.backbones.shufflenet_v2 import ShuffleBlock

pytestmark = pytest.mark.filterwarnings(
    'ignore:`torch.jit.*` is deprecated:DeprecationWarning',
    'ignore:`torch.jit.*` is deprecated:FutureWarning',
)

ACTIVATIONS = {
    'acon_a': lambda: AconA(8),
    'swish': lambda: AconA(8, beta=2, learnable=False),
    'acon_b': lambda: AconB(8),
    'acon_c': lambda: AconC(8),
    'acon_frelu': lambda: AconFReLU(8),
    'meta_acon': lambda: MetaAcon(8),
    'depthwise': lambda: MetaAcon(8, depthwise=True),
    'without_norm': lambda: MetaAcon(8, norm_cfg=None),
    'layer_wise': lambda: MetaAcon(8, manner='layer_wise'),
    'pixel_wise': lambda: MetaAcon(8, manner='pixel_wise'),
}
BLOCK_TYPES = ['acon_mm.AconC', 'acon_mm.MetaAcon']
DYNAMIC = ({0: Dim('n'), 2: Dim('h'), 3: Dim('w')},)


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for param in module.parameters():
        nn.init.normal_(param, std=0.5)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return module


def bottleneck(kind: str) -> nn.Module:
    projection = nn.Conv2d(8, 16, 1)
    block = AconBottleneck(
        act_cfg=dict(type=kind), in_channels=8, out_channels=16, downsample=projection
    )
    return randomise(block)


def shuffle_block(kind: str) -> nn.Module:
    cfg = dict(type=kind)
    block = ShuffleBlock(
        8,
        8,
        first=False,
        stride=1,
        dilation=1,
        act_cfg=cfg,
        other_act_cfg=cfg,
        norm_cfg=dict(type='BN'),
    )
    return randomise(block)


BLOCKS = {'bottleneck': bottleneck, 'shuffle_block': shuffle_block}


def step(module: nn.Module, call, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the value, all gradients and the statistics that a training step leaves behind."""
    x = x.clone().requires_grad_()
    out = call(x)
    out.square().sum().backward()
    found = {'out': out.detach(), 'x': x.grad}
    found.update({name: param.grad for name, param in module.named_parameters()})
    found.update({name: value.clone() for name, value in module.named_buffers()})
    return found


def assert_same_step(module: nn.Module, transform, x: torch.Tensor):
    # In float64: the gradient of a bias before a norm is 0 but for rounding.
    module, x = module.double(), x.double()
    other = copy.deepcopy(module)
    expected, found = step(module, module, x), step(other, transform(other), x)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name],
            value,
            rtol=1e-6,
            atol=1e-9,
            msg=lambda text, name=name: f'{name}: {text}',
        )


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(3, 8, 5, 6)


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize('kind', BLOCK_TYPES)
@pytest.mark.parametrize('block', BLOCKS)
def test_a_block_compiles_without_graph_break_and_trains_the_same(fresh_dynamo, x, block, kind):
    assert_same_step(
        BLOCKS[block](kind).train(),
        lambda module: torch.compile(module, fullgraph=True, backend='aot_eager'),
        x,
    )


def test_a_single_sample_compiles_without_graph_break_before_the_warning(monkeypatch):
    monkeypatch.setattr('acon_mm.models.activations.meta_acon._warned_of_single_samples', False)
    act, x = MetaAcon(8).train(), torch.randn(1, 8, 4, 4)
    compiled = torch.compile(act, fullgraph=True, backend='aot_eager')(x)
    torch.testing.assert_close(compiled, act(x))


@pytest.mark.slow
@pytest.mark.parametrize('kind', BLOCK_TYPES)
def test_a_block_that_inductor_compiled_trains_the_same(fresh_dynamo, x, kind):
    assert_same_step(
        bottleneck(kind).train(), lambda module: torch.compile(module, fullgraph=True), x
    )


def test_a_compiled_activation_serves_all_sizes_without_recompiling(fresh_dynamo):
    act = randomise(MetaAcon(8)).eval()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(act, fullgraph=True, dynamic=True, backend=counter)
    for shape in ((3, 8, 5, 6), (2, 8, 9, 7), (4, 8, 16, 11)):
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), act(x))
    assert counter.frame_count == 1


@pytest.mark.parametrize('kind', BLOCK_TYPES)
@pytest.mark.parametrize('block', BLOCKS)
def test_an_exported_block_serves_any_batch_and_size(x, block, kind):
    module = BLOCKS[block](kind).eval()
    exported = torch.export.export(module, (x,), dynamic_shapes=DYNAMIC).module()
    for shape in ((2, 8, 7, 9), (5, 8, 4, 11)):
        other = torch.randn(shape)
        torch.testing.assert_close(exported(other), module(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_an_exported_activation_serves_any_batch_and_size(x, name):
    act = randomise(ACTIVATIONS[name]()).eval()
    exported = torch.export.export(act, (x,), dynamic_shapes=DYNAMIC).module()
    other = torch.randn(2, 8, 7, 9)
    torch.testing.assert_close(exported(other), act(other))


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_a_scripted_activation_trains_the_same(x, name):
    assert_same_step(randomise(ACTIVATIONS[name]()).train(), torch.jit.script, x)


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_a_scripted_activation_is_saved_and_serves_other_sizes(name):
    act = randomise(ACTIVATIONS[name]()).eval()
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(act), file)
    loaded = torch.jit.load(io.BytesIO(file.getvalue()))
    for shape in ((1, 8, 7, 9), (4, 8, 3, 2)):
        other = torch.randn(shape)
        torch.testing.assert_close(loaded(other), act(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', BLOCK_TYPES)
def test_a_scripted_block_trains_the_same(x, kind):
    """ResNet's blocks are mmengine base modules, whose properties torch cannot script."""
    assert_same_step(shuffle_block(kind).train(), torch.jit.script, x)


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_a_traced_activation_serves_other_sizes_and_warns_of_nothing(x, name):
    act = randomise(ACTIVATIONS[name]()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter('error', torch.jit.TracerWarning)
        traced = torch.jit.trace(act, x)
    other = torch.randn(2, 8, 7, 9)
    torch.testing.assert_close(traced(other), act(other))


@pytest.mark.parametrize('name', ['acon_c', 'meta_acon'])
def test_gradients_of_each_sample_are_those_of_a_loop(x, name):
    act = randomise(ACTIVATIONS[name]()).eval()
    params = {name: param.detach() for name, param in act.named_parameters()}

    def loss(params, sample):
        return functional_call(act, params, (sample[None],)).square().sum()

    found = vmap(grad(loss), (None, 0))(params, x)
    for index, sample in enumerate(x):
        act.zero_grad()
        act(sample[None]).square().sum().backward()
        for key, param in act.named_parameters():
            torch.testing.assert_close(found[key][index], param.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('deployed', [False, True])
@pytest.mark.parametrize('name', ACTIVATIONS)
def test_copies_and_pickles_compute_the_same_and_share_nothing(x, name, deployed):
    act = randomise(ACTIVATIONS[name]()).eval()
    if deployed:
        act.switch_to_deploy()
    file = io.BytesIO()
    torch.save(act, file)
    pickled = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    expected = act(x)
    for other in (copy.deepcopy(act), pickled):
        assert torch.equal(other(x), expected)
        with torch.no_grad():
            for param in other.parameters():
                param.add_(1)
        assert torch.equal(act(x), expected)


WORKER = """
import sys, warnings
from datetime import timedelta
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from acon_mm.models.activations import AconC, MetaAcon

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group(
    'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2,
    timeout=timedelta(seconds=300),
)
net = nn.Sequential(AconC(8), MetaAcon(8)).double().eval()
given = torch.load(f'{folder}/given.pt')
net.load_state_dict(given['state'])
net = DistributedDataParallel(net, gradient_as_bucket_view=True)
warnings.simplefilter('error')  # such as that gradients have other strides than their bucket
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad(set_to_none=False)
    net(given['x'][2 * rank : 2 * rank + 2]).square().mean().backward()
    optimizer.step()
if rank == 0:
    torch.save(net.module.state_dict(), f'{folder}/found.pt')
dist.destroy_process_group()
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason='the processes stay on the CPU')
def test_two_processes_with_gradients_in_buckets_train_as_one(tmp_path):
    net = randomise(nn.Sequential(AconC(8), MetaAcon(8)).double()).eval()
    x = torch.randn(4, 8, 3, 5, dtype=torch.double)
    given = {name: value.clone() for name, value in net.state_dict().items()}
    torch.save({'state': given, 'x': x}, tmp_path / 'given.pt')
    workers = [
        subprocess.Popen(
            [sys.executable, '-c', WORKER, str(tmp_path), str(rank)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    for worker in workers:
        errors = worker.communicate(timeout=600)[1]
        assert worker.returncode == 0, errors[-2000:]
    found = torch.load(tmp_path / 'found.pt')
    for name, value in net.state_dict().items():
        torch.testing.assert_close(found[name], value)
    assert not torch.equal(found['0.beta'], given['0.beta'])
