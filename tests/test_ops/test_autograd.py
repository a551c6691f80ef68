"""What the autograd functions keep, and that they can be differentiated again."""

import itertools

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from acon_mm.models import AconA, AconC, MetaAcon
from acon_mm.ops import acon, cpu_kernel, plain_kernel, spatial_mean
from acon_mm.ops.autograd import acon_by_kernel
from acon_mm.ops.backends import choose_kernel
from acon_mm.ops.formula import acon_formula

needs_cpu_kernel = pytest.mark.skipif(
    choose_kernel(torch.ones(1, 1, 2, 2)) is not cpu_kernel,
    reason='the CPU kernel is not active, see acon_mm.ops.backend_report()',
)


def kept_maps(module, x) -> dict[int, int]:
    """Return the bytes of each storage of at least half the size of x that backward needs."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.nbytes() >= x.numel() * x.element_size() / 2:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(x)
    assert y.requires_grad
    return kept


@pytest.mark.skipif(choose_kernel(torch.ones(1, 1)) is None, reason='the formula keeps more')
@pytest.mark.parametrize('autocast', [False, True], ids=['float32', 'bfloat16 autocast'])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize('cls', [AconA, AconC, MetaAcon])
def test_the_input_is_the_only_map_that_is_kept(cls, layout, autocast):
    x = torch.randn(4, 32, 40, 40, dtype=torch.bfloat16 if autocast else torch.float32)
    x = x.contiguous(memory_format=layout).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
        assert cls(32)(x).dtype == x.dtype
        assert kept_maps(cls(32), x) == {x.data_ptr(): x.numel() * x.element_size()}
        published = kept_maps(lambda x: nn.SiLU()(x) * torch.sigmoid(x), x)
    assert len(published) > 1  # the measure sees more where there is more


KERNELS = [
    pytest.param(plain_kernel, id='plain'),
    pytest.param(cpu_kernel, id='cpu', marks=needs_cpu_kernel),
]


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('beta_shape', [(3,), (2, 3)])
def test_gradients_by_a_kernel_equal_finite_differences(beta_shape, kernel):
    torch.manual_seed(0)
    shapes = [(2, 3, 4, 5), (3,), (3,), beta_shape]
    args = [torch.randn(s, dtype=torch.double, requires_grad=True) for s in shapes]
    assert gradcheck(lambda *args: acon_by_kernel(kernel, *args), args)
    assert gradgradcheck(lambda *args: acon_by_kernel(kernel, *args), args)


@pytest.mark.parametrize('kernel', KERNELS)
def test_parameters_of_any_strides_dtype_and_shape_that_fits_give_the_same(kernel):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5)
    p1, p2, beta = torch.randn(3, 3)
    expected = acon_formula(x, p1, p2, beta)
    for other in (
        torch.stack([p1, p1], 1)[:, 0],  # strided
        p1.double(),
        p1.view(1, 3, 1, 1),
        p1.clone().requires_grad_(),
        nn.Parameter(p1),
    ):
        torch.testing.assert_close(acon_by_kernel(kernel, x, other, p2, beta), expected)
        torch.testing.assert_close(
            acon_by_kernel(kernel, x, other, p2, beta.expand(2, 3)), expected
        )
    torch.testing.assert_close(
        acon_by_kernel(kernel, x, 1.0, p2, beta), acon_formula(x, torch.ones(3), p2, beta)
    )
    with pytest.raises(ValueError, match='p1'):
        acon_by_kernel(kernel, x, torch.ones(4), p2, beta)


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('create_graph', [False, True])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('numbers', range(1, 8))
def test_numbers_give_what_tensors_of_one_value_give(numbers, dtype, create_graph, kernel):
    x = torch.randn(2, 3, 4, 5).to(dtype).requires_grad_()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    given, params = [1.25, 0.3, -0.7], list(torch.randn(3, 3, dtype=wide))
    for i in range(3):
        if numbers >> i & 1:
            params[i] = torch.full_like(params[i], given[i])
        else:
            given[i] = params[i].requires_grad_()
    wanted = [x, *(param for param in given if isinstance(param, torch.Tensor))]
    results = []
    for each in (given, params):
        y = acon_by_kernel(kernel, x, *each)
        results.append([y, *torch.autograd.grad(y, wanted, y.detach(), create_graph=create_graph)])
        with torch.no_grad():
            assert torch.equal(acon_by_kernel(kernel, x, *each), y)
    for found, right in zip(*results, strict=True):
        torch.testing.assert_close(found, right)


class Counter(TorchDispatchMode):
    """Count the operations that make a tensor of their own."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.made.append(func.__name__.partition('.')[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('kernel', KERNELS)
def test_numbers_cost_no_tensor(kernel):
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    g = torch.randn_like(x)

    def made(*params):
        with Counter() as training:
            y = acon_by_kernel(kernel, x, *params)
            torch.autograd.grad(y, [x, *(p for p in params if isinstance(p, torch.Tensor))], g)
        with torch.no_grad(), Counter() as inference:
            acon_by_kernel(kernel, x, *params)
        return [training.made, inference.made]

    p1, p2, beta = torch.randn(3, 3, requires_grad=True)
    family = [
        made(1.0, 0.0, 1.0),
        made(1.0, 0.0, beta),
        made(1.0, p2, beta),
        made(p1, p2, beta),
    ]
    makers = {'full', 'scalar_tensor', 'empty', 'zeros', 'lift_fresh', '_to_copy', 'expand'}
    assert not makers.intersection(*family[0])
    for less, more in itertools.pairwise(family):
        for few, many in zip(less, more, strict=True):
            assert len(few) <= len(many)
    if kernel is cpu_kernel:
        # Older releases of torch compare sizes by an operation.
        found = [[name for name in names if name != 'is_same_size'] for names in family[0]]
        assert found == [['empty_like', 'empty_like'], ['empty_like']]


@pytest.mark.parametrize('kernel', KERNELS)
def test_a_map_that_was_overwritten_is_noticed_in_the_backward_pass(kernel):
    x = torch.randn(2, 3, 4, 5)
    p1, p2, beta = torch.randn(3, 3, requires_grad=True)
    y = acon_by_kernel(kernel, x, p1, p2, beta)
    x.zero_()
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        y.sum().backward()


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (2, 3, 7), (2, 3)])
def test_gradient_of_the_mean_equals_finite_differences(shape):
    x = torch.randn(shape, dtype=torch.double, requires_grad=True)
    assert gradcheck(spatial_mean, [x])
    assert gradgradcheck(spatial_mean, [x])
    torch.testing.assert_close(spatial_mean(x), x.flatten(2).mean(2) if x.dim() > 2 else x)


@pytest.mark.parametrize('twice', [False, True])
@pytest.mark.parametrize('trained', [(0, 2), (1,), (3,)])
def test_what_is_trained_gets_its_gradient_whatever_else_is_frozen(trained, twice):
    torch.manual_seed(0)
    args = [torch.randn(2, 3, 4, 4), *torch.randn(2, 3), torch.randn(2, 3)]
    wanted = [args[i].requires_grad_() for i in trained]
    slope, p2, beta = (
        (p[:, :, None, None] if p.dim() == 2 else p[:, None, None])
        for p in (args[1] - args[2], args[2], args[3])
    )
    expected = slope * args[0] * torch.sigmoid(beta * slope * args[0]) + p2 * args[0]
    g = torch.randn_like(args[0])
    found = torch.autograd.grad(acon(*args), wanted, g, create_graph=twice)
    for grad, right in zip(found, torch.autograd.grad(expected, wanted, g), strict=True):
        torch.testing.assert_close(grad, right)


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('create_graph', [False, True])
def test_many_gradients_at_once_equal_one_after_the_other(kernel, create_graph):
    torch.manual_seed(0)
    args = [torch.randn(2, 3, 4, 4), *torch.randn(2, 3), torch.randn(2, 3)]
    args = [arg.requires_grad_() for arg in args]
    g = torch.randn(5, 2, 3, 4, 4)
    y = acon_by_kernel(kernel, *args)
    once = dict(retain_graph=True, create_graph=create_graph)
    found = torch.autograd.grad(y, args, g, is_grads_batched=True, **once)
    single = [torch.autograd.grad(y, args, one, retain_graph=True) for one in g]
    for grad, right in zip(found, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(grad, torch.stack(right))
