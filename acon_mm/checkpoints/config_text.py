"""Config texts in a checkpoint, which mmengine runs as Python code.

``Runner.resume`` passes ``meta['config']`` to ``Config.fromstring``, and an inferencer that gets
weights without a config does the same with ``message_hub`` or ``meta['cfg']``. So a reader returns
a text only if it contains nothing but values.
"""

import ast
import logging
import os
from typing import Any

from mmengine.logging import print_log

# mmengine itself never writes the first one. It is what a resume runs, and is always left out.
_RESUME_TEXT = ('meta', 'config')
_TEXTS = (_RESUME_TEXT, ('meta', 'cfg'), ('message_hub', 'runtime_info', 'cfg'))

_VALUES = (
    ast.Constant,
    ast.Dict,
    ast.List,
    ast.Load,
    ast.Name,  # of `inf` and `nan`, as Python prints them
    ast.Set,
    ast.Tuple,
    ast.UnaryOp,
    ast.USub,
    ast.keyword,
)


def leave_out_programs(checkpoint: Any, path: str | os.PathLike) -> None:
    """Remove from a checkpoint the config texts that would run code.

    Args:
        checkpoint: What a file held, changed in place; anything but a dict is left alone.
        path: The file, for the warning that names each text with more than values in it.
    """
    for keys in _TEXTS:
        owner = checkpoint
        for key in keys[:-1]:
            owner = owner.get(key) if isinstance(owner, dict) else None
        if not isinstance(owner, dict) or keys[-1] not in owner:
            continue
        is_harmless = holds_values_only(owner[keys[-1]])
        if is_harmless and keys != _RESUME_TEXT:
            continue
        del owner[keys[-1]]
        if not is_harmless:
            place = keys[0] + ''.join(f'[{key!r}]' for key in keys[1:])
            print_log(
                f'checkpoint {str(path)!r}: the config text in {place} holds more than values '
                'and is left out; nothing of it was run. If you need a config, give its file.',
                logger='current',
                level=logging.WARNING,
            )


def holds_values_only(text: Any) -> bool:
    """Return whether a text of Python only gives names to values, as mmengine's dumps do.

    Args:
        text: The text. Calls of ``dict`` count as values. ``_base_``, by which a
            config runs another file, and ``{{``, where mmengine puts in text, do not.

    Examples:
        >>> holds_values_only("model = dict(type='ResNet', depth=50)")
        True
        >>> holds_values_only('import os')
        False
    """
    if not isinstance(text, str) or '{{' in text:
        return False
    try:
        statements = ast.parse(text).body
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        return False
    return all(
        isinstance(statement, ast.Assign)
        and all(_is_plain_name(target) for target in statement.targets)
        and all(_is_value(node) for node in ast.walk(statement.value))
        for statement in statements
    )


def _is_plain_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id not in ('_base_', 'dict')


def _is_value(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == 'dict'
    return isinstance(node, _VALUES)


def values_in(text: Any) -> dict[str, Any]:
    """Return the values that a config text names, by dotted key, without running it.

    Args:
        text: The text.

    Returns:
        A value each for what is neither a dict nor a list with dicts; nothing if
        the text holds more than values.

    Examples:
        >>> values_in("model = dict(depth=50, blocks=[dict(n=1)])")
        {'model.depth': 50, 'model.blocks.0.n': 1}
    """
    if not holds_values_only(text):
        return {}
    found: dict[str, Any] = {}
    for statement in ast.parse(text).body:
        assert isinstance(statement, ast.Assign)
        for target in statement.targets:
            found.update(_flat(statement.value, ast.unparse(target)))
    return found


def _flat(node: ast.AST, key: str) -> dict[str, Any]:
    if isinstance(node, ast.Call):
        parts = [(str(keyword.arg), keyword.value) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        parts = [
            (str(_literal(name)), value)
            for name, value in zip(node.keys, node.values, strict=True)
            if name is not None
        ]
    elif isinstance(node, (ast.List, ast.Tuple)) and any(
        isinstance(child, (ast.Call, ast.Dict)) for child in node.elts
    ):
        parts = [(str(index), value) for index, value in enumerate(node.elts)]
    else:
        return {key: _literal(node)}
    return {k: v for name, value in parts for k, v in _flat(value, f'{key}.{name}').items()}


def _literal(node: ast.AST) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:  # inf, nan or a dict deep inside
        return ast.unparse(node)
