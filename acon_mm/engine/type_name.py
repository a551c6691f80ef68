"""The name of what a config builds, in both of mmengine's styles of configs."""

from typing import Any


def type_name(value: Any) -> str:
    """Return the name of a class, whichever way a config's ``type`` gives it.

    Args:
        value: A string with or without a scope (``'mmdet.CocoDataset'``), or the class itself, as
            in configs of mmengine's new style. None stands for a ``type`` that is not given.

    Returns:
        The name without scope and module; an empty string for None.

    Examples:
        >>> type_name('mmengine.OptimWrapper'), type_name(dict)
        ('OptimWrapper', 'dict')
    """
    if value is None:
        return ''
    return str(getattr(value, '__name__', value)).rpartition('.')[-1]
