"""ACON under whatever looks into it: scripting, tracing, export and functorch."""

import warnings

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap

from acon_mm.ops import acon, acon_grad, smooth_maximum, spatial_mean

# torch deprecates both, and users still have them.
pytestmark = pytest.mark.filterwarnings(
    'ignore:`torch.jit.*` is deprecated:DeprecationWarning',
    'ignore:`torch.jit.*` is deprecated:FutureWarning',
)

# One value a channel, a sample and channel, a sample, an element, and one in all.
BETA_SHAPES = [(3,), (2, 3), (2, 1), (2, 3, 4, 5), ()]


def draw(*shape: int):
    return torch.randn(shape, dtype=torch.double)


def smooth(x, p1, p2, beta):
    """ACON by Eq. 1, for slopes of shape (C,) and a beta of 2 dimensions or already broadcast."""
    beta = beta[..., None, None] if beta.dim() == 2 else beta
    beta = beta.view(-1, 1, 1) if beta.dim() == 1 else beta
    return smooth_maximum([x * p1.view(-1, 1, 1), x * p2.view(-1, 1, 1)], beta)


@pytest.fixture(scope='module')
def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.jit.script(acon)


@pytest.mark.parametrize('beta_shape', BETA_SHAPES)
def test_scripted_acon_is_the_smooth_maximum_of_its_two_lines(scripted, beta_shape):
    x, p1, p2, beta = draw(2, 3, 4, 5), draw(3), draw(3), draw(*beta_shape)
    torch.testing.assert_close(scripted(x, p1, p2, beta), smooth(x, p1, p2, beta))


def test_scripted_acon_takes_numbers(scripted):
    x = draw(2, 3, 4)
    torch.testing.assert_close(scripted(x, 1.0, 0.0, 1.0), torch.nn.functional.silu(x))


def test_scripted_acon_keeps_half_precision(scripted):
    x = torch.randn(2, 3, 4, 4).bfloat16()
    params = torch.randn(3, 3)
    out = scripted(x, *params)
    assert out.dtype == x.dtype
    assert torch.equal(out, acon(x.float(), *params).bfloat16())


def test_scripted_acon_refuses_another_shape_by_name(scripted):
    message = r'p2 has the shape \(4,\), which does not fit x of shape \(2, 3, 5, 5\)'
    with pytest.raises(torch.jit.Error, match=message):
        scripted(torch.ones(2, 3, 5, 5), 1.0, torch.ones(4), 1.0)


def test_the_scripted_mean_is_that_of_the_pixels():
    x = draw(2, 3, 4, 5)
    torch.testing.assert_close(torch.jit.script(spatial_mean)(x), x.mean((2, 3)))


@pytest.mark.parametrize('beta_shape', [(3,), (2, 1), ()])
def test_a_trace_serves_maps_of_other_sizes_and_warns_of_nothing(beta_shape):
    p1, p2, beta = draw(3), draw(3), draw(*beta_shape)
    with warnings.catch_warnings():
        warnings.simplefilter('error', torch.jit.TracerWarning)
        traced = torch.jit.trace(lambda x: acon(x, p1, p2, beta), draw(2, 3, 4, 5))
        swish = torch.jit.trace(lambda x: acon(x, 1.0, 0.0, 1.0), draw(2, 3, 4, 5))
    x = draw(2, 3, 7, 6)
    torch.testing.assert_close(traced(x), smooth(x, p1, p2, beta))
    torch.testing.assert_close(swish(x), torch.nn.functional.silu(x))


def test_vmap_over_gradients_is_the_loop_over_samples():
    x, params = draw(5, 3, 4, 4), draw(3, 3)

    def loss(params, sample):
        return (acon(sample[None], *params) ** 2).sum()

    looped = torch.stack([grad(loss)(params, sample) for sample in x])
    torch.testing.assert_close(vmap(grad(loss), (None, 0))(params, x), looped)
    # The sum over the samples is what autograd finds through the kernel.
    whole = params.clone().requires_grad_()
    (acon(x, *whole) ** 2).sum().backward()
    torch.testing.assert_close(looped.sum(0), whole.grad)


def test_vmap_over_parameters_is_the_loop_over_them():
    x, params = draw(2, 3, 4), draw(6, 3, 3)
    looped = torch.stack([acon(x, *each) for each in params])
    torch.testing.assert_close(vmap(lambda each: acon(x, *each))(params), looped)


def test_forward_mode_is_the_closed_form_of_the_derivative():
    x, tangent, params = draw(2, 3, 4), draw(2, 3, 4), draw(3, 3)
    expected = acon_grad(x, *params) * tangent
    torch.testing.assert_close(jvp(lambda x: acon(x, *params), (x,), (tangent,))[1], expected)
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(acon(forward_ad.make_dual(x, tangent), *params))
    torch.testing.assert_close(out.tangent, expected)


def test_forward_mode_follows_parameters_as_well():
    x, params, tangents = draw(2, 3, 4), draw(3, 3), draw(3, 3)
    step = 1e-6
    difference = acon(x, *(params + step * tangents)) - acon(x, *(params - step * tangents))
    found = jvp(lambda params: acon(x, *params), (params,), (tangents,))[1]
    torch.testing.assert_close(found, difference / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.fixture
def graph_of():
    """Return a function that compiles another one and returns its result and its graph."""

    def compile_it(function, *args):
        torch.compiler.reset()
        graphs = []

        def keep(module, inputs):
            graphs.append(module.print_readable(print_output=False))
            return module.forward

        result = torch.compile(function, backend=keep, fullgraph=True)(*args)
        torch.testing.assert_close(result, function(*args))
        return ''.join(graphs)

    return compile_it


def test_a_compiler_gets_our_gradients_for_training_alone(graph_of):
    x, params = draw(2, 3, 4, 5), draw(3, 3)
    slope = params[0].clone().requires_grad_()
    assert 'autograd_function' in graph_of(acon, x.clone().requires_grad_(), *params)
    assert 'autograd_function' in graph_of(lambda x, p: acon(x, p, 0.0, 1.0), x, slope)
    assert 'autograd_function' not in graph_of(acon, x, *params)
    with torch.no_grad():
        assert 'autograd_function' not in graph_of(acon, x, slope, *params[1:])


def test_a_compiler_gets_the_formula_within_functorch_transforms(graph_of):
    x, params = draw(2, 3, 4, 5).requires_grad_(), draw(3, 3)
    for function in (
        lambda x: vmap(lambda each: acon(each, *params))(x[:, None]),
        lambda x: grad(lambda x: acon(x, *params).sum())(x),
        lambda x: jvp(lambda x: acon(x, *params), (x,), (x,))[1],
    ):
        assert 'autograd_function' not in graph_of(function, x)


def test_compiled_gradients_are_those_of_the_formula():
    inputs = [draw(2, 3, 4, 5), *draw(3, 3)]
    compiled = torch.compile(acon, backend='aot_eager', fullgraph=True)
    for needed in [(0, 1, 2, 3), (2, 3)]:
        args = [t.clone().requires_grad_(i in needed) for i, t in enumerate(inputs)]
        wanted = [args[i] for i in needed]
        found = torch.autograd.grad(compiled(*args).sum(), wanted)
        torch.testing.assert_close(found, torch.autograd.grad(smooth(*args).sum(), wanted))


@pytest.mark.parametrize('strict', [True, False])
def test_an_exporter_gets_the_formula_of_a_module_that_trains(strict):
    class Activation(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.params = torch.nn.ParameterList(list(draw(3, 3)))

        def forward(self, x):
            return acon(x, *self.params)

    program = torch.export.export(Activation(), (draw(2, 3, 4, 5),), strict=strict)
    targets = [node.target for node in program.graph.nodes if node.op == 'call_function']
    assert targets and all(str(target).startswith('aten.') for target in targets)


def test_without_a_word_from_torch_a_compiler_counts_as_an_exporter(graph_of, monkeypatch):
    monkeypatch.setattr('acon_mm.ops.backends._is_exporting', lambda: True)
    assert 'autograd_function' not in graph_of(acon, draw(2, 3, 4).requires_grad_(), *draw(3, 3))
