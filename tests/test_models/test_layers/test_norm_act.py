"""norm_act() is act(norm(x)), whatever the two are and whoever looks at them."""

from copy import deepcopy

import pytest
import torch
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
)
from torch.nn.utils import parametrize

from acon_mm.models import AconA, AconB, AconC, AconFReLU, AconShuffleNetV2, MetaAcon
from acon_mm.models.layers import ConvNormAct, checkpoint_block, norm_act
from acon_mm.ops.norm_act import may_compute_norm_act

needs_cpu_kernel = pytest.mark.skipif(
    not may_compute_norm_act(torch.ones(1, 1, 2, 2)),
    reason='the CPU kernel is not active, see acon_mm.ops.backend_report()',
)
C = 8
NORMS = {
    'usual': lambda: nn.BatchNorm2d(C),
    'cumulative': lambda: nn.BatchNorm2d(C, momentum=None),
    'no_affine': lambda: nn.BatchNorm2d(C, affine=False),
    'untracked': lambda: nn.BatchNorm2d(C, track_running_stats=False),
    'sync': lambda: nn.SyncBatchNorm(C),
    'sync_of_mmengine': lambda: SyncBatchNorm(C),
    'sync_cumulative': lambda: nn.SyncBatchNorm(C, momentum=None),
    'reverted_sync': lambda: revert_sync_batchnorm(nn.SyncBatchNorm(C)),
    'eps': lambda: nn.BatchNorm2d(C, eps=0.1, momentum=0.7),
}
ACTS = {
    'acon_a': lambda: AconA(C),
    'acon_a_fixed': lambda: AconA(C, beta=2.0, learnable=False),
    'acon_b': lambda: AconB(C),
    'acon_c': lambda: AconC(C, init='normal'),
    'meta': lambda: MetaAcon(C, init='normal'),
    'meta_sync': lambda: MetaAcon(C, norm_cfg=dict(type='SyncBN'), init='normal'),
    'meta_layer_wise': lambda: MetaAcon(C, manner='layer_wise', init='normal'),
    'relu': lambda: nn.ReLU(inplace=True),
    'silu': lambda: nn.SiLU(),
}
OTHERS = {
    'group_norm': (lambda: nn.GroupNorm(2, C), ACTS['meta']),
    'instance_norm': (lambda: nn.InstanceNorm2d(C), ACTS['acon_c']),
    'gelu': (NORMS['usual'], nn.GELU),
    'frelu': (NORMS['usual'], lambda: AconFReLU(C)),
    'pixel_wise': (NORMS['usual'], lambda: MetaAcon(C, manner='pixel_wise')),
    'without_inner_norm': (NORMS['usual'], lambda: MetaAcon(C, norm_cfg=None)),
}
MODES = ('train', 'eval', 'norm_eval')


@pytest.fixture
def fused(monkeypatch):
    """Count the calls of the fused operator."""
    calls = []
    module = torch.sys.modules['acon_mm.models.layers.norm_act']
    plain = module.fused_norm_act
    monkeypatch.setattr(module, 'fused_norm_act', lambda *args: calls.append(1) or plain(*args))
    return calls


def build(norm, act, mode='train', dtype=torch.double):
    torch.manual_seed(0)
    pair = nn.Sequential(norm(), act()).to(dtype)
    for tensor in pair.parameters():
        nn.init.normal_(tensor)
    for name, tensor in pair.named_buffers():
        if tensor.is_floating_point():
            (nn.init.uniform_ if name.endswith('var') else nn.init.normal_)(tensor)
    pair.train(mode != 'eval')
    if mode == 'norm_eval':  # the way in which detectors train
        pair[0].eval()
    return pair


def call(pair, x):
    return norm_act(*pair, x)


def assert_equal(fused, apart, x, g):
    """Compare values, gradients and states after two batches."""
    for batch in (x, 2 * x + 1):
        leaves = [batch.detach().requires_grad_() for _ in range(2)]
        y, right = call(fused, leaves[0]), apart(leaves[1])
        torch.testing.assert_close(y, right)
        y.backward(g)
        right.backward(g)
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad)
    for (name, p), q in zip(fused.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for name, value in apart.state_dict().items():
        torch.testing.assert_close(fused.state_dict()[name], value, msg=name)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('act', ACTS)
@pytest.mark.parametrize('norm', NORMS)
def test_it_is_the_activation_of_the_norm(norm, act, mode, fused):
    pair = build(NORMS[norm], ACTS[act], mode)
    x, g = torch.randn(2, 5, C, 6, 7, dtype=torch.double)
    assert_equal(pair, deepcopy(pair), x, g)
    assert len(fused) == 2 * may_compute_norm_act(x)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('name', OTHERS)
def test_other_norms_and_activations_are_called(name, mode, fused):
    pair = build(*OTHERS[name], mode)
    x, g = torch.randn(2, 5, C, 6, 7, dtype=torch.double)
    assert_equal(pair, deepcopy(pair), x, g)
    assert not fused


@pytest.mark.parametrize('act', ['acon_c', 'meta', 'relu'])
def test_a_subclass_a_parametrization_and_a_replaced_method_are_called(act, fused):
    class Own(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) + 1

    class Double(nn.Module):
        def forward(self, weight):
            return 2 * weight

    subclass = build(lambda: Own(C), ACTS[act])
    doubled = build(NORMS['usual'], ACTS[act])
    parametrize.register_parametrization(doubled[0], 'weight', Double())
    replaced = build(NORMS['usual'], ACTS[act])
    replaced[0].forward = lambda x: x + 1
    x = torch.randn(4, C, 5, 5, dtype=torch.double)
    for pair in (subclass, doubled, replaced):
        torch.testing.assert_close(call(pair, x), pair(x))
    assert not fused


LISTENERS = {
    'forward': lambda part, hook: part.register_forward_hook(hook),
    'forward_pre': lambda part, hook: part.register_forward_pre_hook(hook),
    'backward': lambda part, hook: part.register_full_backward_hook(hook),
    'backward_pre': lambda part, hook: part.register_full_backward_pre_hook(hook),
    'any_forward': lambda _, hook: register_module_forward_hook(hook),
    'any_forward_pre': lambda _, hook: register_module_forward_pre_hook(hook),
    'any_backward': lambda _, hook: register_module_full_backward_hook(hook),
}


@pytest.mark.parametrize('kind', LISTENERS)
@pytest.mark.parametrize('part', ['0', '1', '1.bn2'])
def test_a_hook_is_heard_and_changes_nothing(part, kind, fused):
    quiet = build(NORMS['usual'], ACTS['meta'])
    heard, seen = deepcopy(quiet), []

    def hook(module, *_):
        seen.append(module)

    handle = LISTENERS[kind](heard.get_submodule(part), hook)
    x = torch.randn(4, C, 5, 5, dtype=torch.double)
    try:
        call(heard, x).sum().backward()
    finally:
        handle.remove()
    assert heard.get_submodule(part) in seen
    assert not fused
    call(quiet, x).sum().backward()
    for (name, p), q in zip(quiet.named_parameters(), heard.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for name, value in quiet.state_dict().items():
        torch.testing.assert_close(value, heard.state_dict()[name], msg=name)


@pytest.mark.parametrize('act', ['acon_c', 'meta', 'relu'])
@pytest.mark.parametrize('shape', [(0, C, 4, 4), (1, C, 5, 5), (5, C, 1, 1)], ids=str)
def test_empty_batches_single_samples_and_single_pixels(shape, act):
    pair = build(NORMS['usual'], ACTS[act])
    x, g = torch.randn(2, *shape, dtype=torch.double)
    if shape[0]:
        assert_equal(pair, deepcopy(pair), x, g)
    else:
        assert call(pair.eval(), x).shape == pair(x).shape


def test_a_batch_of_one_value_a_channel_is_refused_as_torch_refuses_it():
    pair = build(NORMS['usual'], ACTS['meta'])
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        call(pair, torch.randn(1, C, 1, 1, dtype=torch.double))
    with pytest.raises(ValueError, match='expected 4D input'):
        call(pair, torch.randn(4, C, 3, dtype=torch.double))


@needs_cpu_kernel
@pytest.mark.parametrize('act', ACTS)
def test_autocast_gives_the_dtype_of_the_convolution_and_float32_gradients(act, fused):
    pair = build(NORMS['usual'], ACTS[act], dtype=torch.float32)
    apart, conv = deepcopy(pair), nn.Conv2d(3, C, 3)
    x = torch.randn(4, 3, 9, 9)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        middle = conv(x)
        y, right = call(pair, middle), apart(middle)
    assert y.dtype == right.dtype == torch.bfloat16
    torch.testing.assert_close(y, right, atol=5e-2, rtol=5e-2)
    y.sum().backward()
    assert fused
    assert all(p.grad.dtype == torch.float32 for p in pair.parameters())


@pytest.mark.parametrize('act', ['acon_c', 'meta', 'relu'])
def test_parameters_of_another_dtype_are_left_to_torch(act, fused):
    pair = build(NORMS['usual'], ACTS[act], dtype=torch.bfloat16)
    x = torch.randn(4, C, 5, 5).bfloat16()
    torch.testing.assert_close(call(pair, x), deepcopy(pair)(x))
    assert not fused


@needs_cpu_kernel
@pytest.mark.parametrize('act', ['acon_c', 'meta', 'relu'])
def test_activation_checkpointing_updates_the_statistics_once(act, fused):
    unit = ConvNormAct(3, C, 3, act_cfg=dict(type='ReLU')).double()
    unit.activate = ACTS[act]().double()
    again, x = deepcopy(unit), torch.randn(4, 3, 6, 6, dtype=torch.double)
    unit(x).square().sum().backward()
    checkpoint_block(again, x).square().sum().backward()
    assert len(fused) == 3
    for (name, p), q in zip(unit.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for name, value in unit.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], msg=name)
    assert again.bn.num_batches_tracked == 1


@needs_cpu_kernel
@pytest.mark.parametrize('act', ['acon_c', 'meta', 'relu'])
def test_a_backward_pass_after_other_batches_is_that_of_the_statistics_it_saw(act):
    pair = build(NORMS['usual'], ACTS[act], 'eval')
    x = torch.randn(4, C, 5, 5, dtype=torch.double, requires_grad=True)
    args = [x, *pair.parameters()]
    right = torch.autograd.grad(call(pair, x).square().sum(), args)
    y = call(pair, x).square().sum()
    call(pair.train(), 3 + 5 * torch.randn(4, C, 5, 5, dtype=torch.double))
    for twice in (False, True):
        found = torch.autograd.grad(y, args, create_graph=twice, retain_graph=True)
        for grad, expected in zip(found, right, strict=True):
            torch.testing.assert_close(grad, expected)


@needs_cpu_kernel
def test_an_update_of_the_statistics_is_known_to_autograd():
    pair = build(NORMS['usual'], ACTS['acon_c'])
    kept = pair[0].weight * pair[0].running_var
    call(pair, torch.randn(4, C, 5, 5, dtype=torch.double))
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        kept.sum().backward()


def units(act):
    unit = ConvNormAct(3, C, 3, act_cfg=dict(type='ReLU'))
    unit.activate = ACTS[act]()
    return unit.eval(), torch.randn(2, 3, 6, 6)


@pytest.mark.parametrize('act', ['acon_c', 'meta', 'relu'])
def test_tracers_exporters_compilers_and_transforms_see_the_plain_graph(act, fused):
    unit, x = units(act)
    apart = nn.Sequential(*unit.children())
    right = apart(x)
    traced = torch.jit.trace(unit, x, check_trace=False)
    assert 'batch_norm' in str(traced.inlined_graph)
    exported = torch.export.export(unit, (x,)).module()
    assert any('batch_norm' in str(node.target) for node in exported.graph.nodes)
    compiled = torch.compile(unit, backend='eager', fullgraph=True)
    results = [traced(x), exported(x), compiled(x)]
    results.append(torch.vmap(unit)(x[:, None])[:, 0])
    results.append(torch.func.jvp(unit, (x,), (x,))[0])
    for result in results:
        torch.testing.assert_close(result, right)
    torch._dynamo.reset()
    assert not fused


@pytest.mark.parametrize('act', ['acon_mm.AconC', 'acon_mm.MetaAcon', 'ReLU'])
def test_states_load_both_ways(act, monkeypatch):
    nets = [AconShuffleNetV2(0.5, act_cfg=dict(type=act)) for _ in range(2)]
    x = torch.rand(4, 3, 64, 64)
    nets[0](x)[0].square().sum().backward()
    with monkeypatch.context() as patch:
        patch.setattr('acon_mm.ops.backends._forced', 'plain')
        nets[1](x)[0].square().sum().backward()
    names = [[name for name, _ in net.named_modules()] for net in nets]
    assert names[0] == names[1]
    first, second = (deepcopy(net.state_dict()) for net in nets)
    assert list(first) == list(second)
    nets[0].load_state_dict(second)
    nets[1].load_state_dict(first)
    outs = [net.eval()(x)[0] for net in nets]
    nets[0].load_state_dict(first)
    torch.testing.assert_close(nets[0](x)[0], outs[1])
    assert not torch.equal(*outs)
