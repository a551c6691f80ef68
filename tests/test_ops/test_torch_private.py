"""A release of torch that renames a private name costs speed, not results."""

import importlib
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import acon_mm
from acon_mm.models import AconC, MetaAcon
from acon_mm.ops import acon_grad, backend_report, backends, smooth_maximum, torch_private

OWNERS = {
    '_are_functorch_transforms_active': torch._C,
    '_len_torch_dispatch_stack': torch._C,
    '_current_level': forward_ad,
    '_forward_hooks': nn.Module,
    '_forward_pre_hooks': nn.Module,
    '_backward_hooks': nn.Module,
    '_backward_pre_hooks': nn.Module,
}


@pytest.fixture
def import_without(monkeypatch):
    """A function that imports ``torch_private`` in a torch without a name, and counts warnings."""

    def import_without(name):
        owner = OWNERS[name]
        if owner is nn.Module:  # an attribute of the instances

            class Module:
                def __getattr__(self, attribute):
                    if attribute == name or attribute not in OWNERS:
                        raise AttributeError(attribute)
                    return {}

            monkeypatch.setattr(nn, 'Module', Module)
        else:
            monkeypatch.delattr(owner, name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            importlib.reload(torch_private)
        if owner is nn.Module:
            monkeypatch.setattr(nn, 'Module', nn.modules.Module)
        return [str(warning.message) for warning in caught]

    yield import_without
    monkeypatch.undo()
    importlib.reload(torch_private)
    assert not torch_private.MISSING


def step(act, x):
    """Return the value and the gradients of a module's input and parameters."""
    x = x.clone().requires_grad_()
    y = act(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *act.parameters()])]


@pytest.mark.parametrize('name', OWNERS)
def test_without_a_private_name_the_formula_computes_the_same_after_one_warning(
    import_without, name
):
    x = torch.randn(3, 8, 4, 5)
    acts = [AconC(8, init='normal'), MetaAcon(8, init='normal')]
    expected = [step(act, x) for act in acts]
    said = import_without(name)
    found = [step(act, x) for act in acts]
    chosen, report = backends.choose_kernel(x), backend_report()
    assert chosen is None
    assert len(said) == 1
    assert re.search(rf'has no torch\.[\w.]+\.{name}: ', said[0])
    assert report.startswith('the formula everywhere, because torch ') and name in report
    for act, ours, theirs in zip(acts, found, expected, strict=True):
        for value, right in zip(ours, theirs, strict=True):
            torch.testing.assert_close(value, right, rtol=1e-4, atol=1e-4, msg=type(act).__name__)
    p1, p2 = (p.view(-1, 1, 1) for p in (acts[0].p1, acts[0].p2))
    torch.testing.assert_close(found[0][0], smooth_maximum([x * p1, x * p2], 1.0))
    slope = acon_grad(x, acts[0].p1, acts[0].p2, 1.0)
    torch.testing.assert_close(found[0][1], 2 * found[0][0] * slope)


def test_ops_and_models_take_private_names_of_torch_from_one_module():
    """Left out: ``_BatchNorm``, which mmengine imports, and ``_load_from_state_dict``."""
    private = re.compile(r'\b(?:torch|forward_ad|nn|F)(?:\.\w+)*\._[a-z]\w*|\._\w+_hooks\b')
    found = {}
    for room in ('ops', 'models'):
        for path in Path(acon_mm.__file__).parent.joinpath(room).rglob('*.py'):
            names = private.findall(path.read_text(encoding='utf-8'))
            if names:
                found[path.name] = names
    assert list(found) == ['torch_private.py']


@pytest.mark.parametrize('renamed', [False, True])
def test_counters_count_with_and_without_a_private_name(renamed, monkeypatch):
    if renamed:
        monkeypatch.setattr(torch_private, '_foreach_add_', None)
    counters = [torch.tensor(n) for n in (0, 7)]
    for some in ([], counters):
        torch_private.count_up(some)
    assert [counter.item() for counter in counters] == [1, 8]
