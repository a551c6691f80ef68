"""Imports between the packages of acon_mm point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the lowest to the highest: each may import those before it.
LAYERS = (
    *(
        'version',
        '_stack',
        'errors',
        'progress',
        '_mim',
        'ops',
        'registry',
        'checkpoints',
        'acon_mm',
    ),
    *('datasets', 'models', 'utils', 'engine', 'apis', 'analysis', 'deployment', 'tools'),
)
FILES = sorted([*ROOT.glob('acon_mm/**/*.py'), *ROOT.glob('tools/**/*.py')])


def layer_of(parts):
    """Return the layer of a module by the parts of its dotted name."""
    if parts[0] != 'acon_mm':
        return parts[0]
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else 'acon_mm'


def imported(path):
    """Yield the parts of the name of each module that a file imports, relative ones resolved."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split('.')) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = (*start, *(node.module.split('.') if node.module else ()))
            yield from ((*base, alias.name) for alias in node.names)


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_lower_layers_only(path):
    own = layer_of(path.relative_to(ROOT).with_suffix('').parts)
    for parts in imported(path):
        if parts[0] == 'acon_mm':
            other = layer_of(parts)
            assert other == own or LAYERS.index(other) < LAYERS.index(own), '.'.join(parts)


@pytest.mark.parametrize('path', sorted(ROOT.glob('acon_mm/ops/**/*.py')), ids=lambda p: p.name)
def test_the_operator_imports_nothing_of_openmmlab(path):
    own = {'acon_mm', '__future__'}
    for parts in imported(path):
        assert not parts[0].startswith('mm'), '.'.join(parts)
        assert parts[0] not in own or parts[1] == 'ops', '.'.join(parts)


def test_every_package_has_its_layer():
    for path in (ROOT / 'acon_mm').iterdir():
        if path.suffix == '.py' or (path / '__init__.py').is_file():
            assert path.stem in (*LAYERS, '__init__'), path
