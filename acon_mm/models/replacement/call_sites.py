"""Give each call of a shared activation a module of its own.

Many blocks, those of ResNet first of all, have one ``self.relu`` and call it after every norm. A
parameter-free activation does not mind; ACON has other channels at each of these places, or at
least other parameters. Here the block gets a subclass of its class whose methods call
``self.relu``, ``self.relu_2``, ``self.relu_3``, in the order in which the source has them.
"""

import ast
import inspect
import linecache
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import count
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from torch import nn


class _Method(NamedTuple):
    owner: type
    function: Any
    tree: ast.FunctionDef


def separate_calls(owner: nn.Module, name: str) -> list[str]:
    """Let the calls ``owner.name(x)`` in the methods of a module call modules of their own.

    The module stays an instance of its class: it gets a subclass of the same name. ``owner.name``
    serves the first call, and whatever else uses it. For each of the others the subclass calls a
    new attribute, which the caller sets. Nothing changes if there is one call, or if the source of
    a method is not there or cannot be rewritten.

    Args:
        owner: The module; its class changes.
        name: The attribute that holds the shared module.

    Returns:
        The names of the new attributes, such as ``['relu_2', 'relu_3']``.
    """
    stock: Any = type(owner)  # mypy takes a class of modules for one that cannot be hashed
    cls, names = _separated(stock, name)
    if any(hasattr(owner, new) for new in names):
        return []
    if names:
        owner.__class__ = cls
    return names


@cache
def _separated(cls: type, name: str) -> tuple[type, list[str]]:
    """Return the subclass and the attributes that its methods call besides ``name``."""
    sites = _Sites(name)
    methods = list(_methods_calling(cls, name))
    for method in methods:
        sites.self_name = method.tree.args.args[0].arg
        sites.visit(method.tree)
    if len(sites.names) < 2:
        return cls, []
    stock, separated = getattr(cls, '_stock_class', (cls, ()))
    members: dict[str, Any] = dict(
        __module__=cls.__module__,
        __qualname__=cls.__qualname__,
        __doc__=cls.__doc__,
        __reduce__=_reduce,
        _stock_class=(stock, (*separated, name)),
    )
    members |= {method.function.__name__: _compile(method, cls) for method in methods}
    return type(cls)(cls.__name__, (cls,), members), sites.names[1:]


def _methods_calling(cls: type, name: str) -> Iterator[_Method]:
    found: dict[str, tuple[type, FunctionType]] = {}
    for base in reversed(cls.__mro__):
        for attribute, value in vars(base).items():
            if isinstance(value, FunctionType) and attribute != '__init__':
                found.pop(attribute, None)  # what is inherited stands before what is not
                found[attribute] = (base, value)
    for base, function in found.values():
        if name not in _names_in(function.__code__):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        # What else a function has of its surroundings is lost when it is compiled again.
        plain = set(function.__code__.co_freevars) <= {'__class__'}
        private = any(
            isinstance(node, ast.Attribute)
            and node.attr.startswith('__')
            and not node.attr.endswith('__')
            for node in ast.walk(tree)
        )
        if isinstance(tree, ast.FunctionDef) and tree.args.args and plain and not private:
            yield _Method(base, function, tree)


def _names_in(code: CodeType) -> set[str]:
    inner = (_names_in(const) for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*inner)


class _Sites(ast.NodeTransformer):
    """Number the calls of ``self.name``, in the order in which they are run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.self_name = 'self'
        self.names: list[str] = []

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)  # the arguments are computed first
        func = node.func
        if (
            isinstance(func, ast.Attribute)
            and func.attr == self.name
            and isinstance(func.value, ast.Name)
            and func.value.id == self.self_name
        ):
            number = len(self.names) + 1
            self.names.append(self.name if number == 1 else f'{self.name}_{number}')
            func.attr = self.names[-1]
        return node


_numbers = count()


def _compile(method: _Method, cls: type) -> FunctionType:
    """Compile a method again; its source can be read as that of any other function."""
    # super() finds the class of a method in its surroundings.
    source = (
        f'def surroundings(__class__):\n'
        f'{textwrap.indent(ast.unparse(method.tree), "    ")}\n'
        f'    return {method.tree.name}\n'
    )
    filename = f'<acon_mm: {cls.__module__}.{cls.__qualname__} {next(_numbers)}>'
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    made: dict[str, Any] = {}
    exec(compile(source, filename, 'exec'), method.function.__globals__, made)
    return made['surroundings'](method.owner)


def _reduce(module: nn.Module) -> tuple:
    """Have modules copied and pickled by what their class was made of."""
    return _restore, module._stock_class, vars(module)


def _restore(cls: type, names: tuple[str, ...]) -> nn.Module:
    for name in names:
        cls, _ = _separated(cls, name)
    return nn.Module.__new__(cls)
