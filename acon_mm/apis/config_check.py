"""What is wrong with a config, all at once and before anything is built from it."""

import inspect
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from acon_mm.errors import UserError

# What is read from the top of a config besides the arguments of the Runner.
_TOP_KEYS = {
    *inspect.signature(Runner).parameters,
    *('activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval'),
    *('find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'strategy', 'sync_bn'),
    *('tta_model', 'tta_pipeline'),
}
_SPLITS = ('train', 'val', 'test')
_REGISTRIES = [value for value in vars(registries).values() if isinstance(value, Registry)]

# What the builders of mmengine take out of a config before they call the class.
_TAKEN = {'type', '_scope_', '_delete_'}
_TAKEN_BY_REGISTRY = {
    'hook': {'priority'},
    'optimizer_wrapper': {'optimizer', 'paramwise_cfg', 'constructor'},
    'optim_wrapper': {'optimizer', 'paramwise_cfg', 'constructor'},
    'param_scheduler': {'convert_to_iter_based', 'epoch_length'},
    'parameter scheduler': {'convert_to_iter_based', 'epoch_length'},
}
# Registries whose builders call the class with what the config says, and nothing else.
_PLAIN = ('hook', 'loop', 'transform', 'dataset', 'data sampler', 'metric', 'param_scheduler')
_PLAIN_KEYS = ('backbone', 'neck', 'decode_head', 'bbox_head', 'head', 'optimizer')
_LOADER_KEYS = {
    *inspect.signature(DataLoader).parameters,
    *('batch_sampler', 'disable_subprocess_warning', 'num_batch_per_epoch'),
}
# The numbers that a run cannot do without: the lowest, and whether it has to be whole.
_NUMBERS = {
    'batch_size': (1, True),
    'num_workers': (0, True),
    'max_epochs': (1, True),
    'max_iters': (1, True),
    'val_interval': (1, True),
    'val_begin': (0, True),
    'lr': (0, False),
    'momentum': (0, False),
    'weight_decay': (0, False),
    'num_classes': (1, True),
    'accumulative_counts': (1, True),
    'base_batch_size': (1, True),
    'interval': (-1, True),
    'max_keep_ckpts': (-1, True),
}
# What has to name a class.
_TYPED = {
    *('model', 'model.backbone', 'optim_wrapper.optimizer'),
    *(f'{split}_dataloader.dataset' for split in _SPLITS),
}
_KINDS = {int: 'an integer', float: 'a number', bool: 'True or False', str: 'a string'}


class ConfigFaultsError(UserError):
    """A config has faults; the message has a line for each."""

    def __init__(self, path: str | None, faults: list[str]) -> None:
        name = repr(path) if path else 'given'
        if len(faults) == 1:
            super().__init__(f'config {name}: {faults[0]}')
        else:
            lines = ''.join(f'\n  {fault}' for fault in faults)
            super().__init__(f'config {name} has {len(faults)} faults:{lines}')


def check_config(cfg: Config, cfg_options: Mapping[str, Any] | None = None) -> None:
    """Raise for everything in a config that a run would fail at or ignore.

    Args:
        cfg: The config with the options merged into it.
        cfg_options: These options, by dotted key.

    Raises:
        ConfigFaultsError: With a line for each fault: the key, the value, what would work.
    """
    faults = list(dict.fromkeys(config_faults(cfg, cfg_options or {})))
    if faults:
        raise ConfigFaultsError(cfg.filename, faults)


def config_faults(cfg: Config, cfg_options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of a config: unknown keys, types, arguments, values that no run takes.

    Args:
        cfg: The config with the options merged into it.
        cfg_options: These options, by dotted key.
    """
    yield from _top_faults(cfg, cfg_options)
    yield from _work_dir_faults(cfg.get('work_dir'))
    for split in _SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if isinstance(loader, dict):
            yield from _unknown(f'{split}_dataloader', loader, _LOADER_KEYS, is_complete=True)
            yield from _channel_faults(cfg, f'{split}_dataloader')
        elif loader is not None:
            yield f'{split}_dataloader is {loader!r}; it has to be a dict'
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        for key in sorted(_TOP_KEYS & set(cfg.keys()) - {'tta_model', 'tta_pipeline', 'cfg'}):
            yield from _node_faults(cfg[key], key)


def _top_faults(cfg: Config, cfg_options: Mapping[str, Any]) -> Iterator[str]:
    for key in cfg.keys():  # noqa: SIM118
        near = get_close_matches(key, _TOP_KEYS, n=1, cutoff=0.85)
        if key not in _TOP_KEYS and near and not key.endswith('_pipeline'):
            yield f'{key} is read by nothing; did you mean {near[0]}?'
    for option in cfg_options:
        key = option.partition('.')[0]
        if key in _TOP_KEYS or get_close_matches(key, _TOP_KEYS, n=1, cutoff=0.85):
            continue
        places = list(_paths(cfg, key))[:3]
        hint = f'; set {" or ".join(places)}' if places else ''
        yield (
            f'the option {option} changes a variable of the config file that nothing reads any '
            f'more{hint}'
        )


def _paths(cfg: Config, name: str) -> Iterator[str]:
    """Yield the places below which a key of that name is read."""

    def walk(node: Any, path: str) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == name:
                    yield f'{path}.{key}'
                yield from walk(value, f'{path}.{key}')

    for key in sorted(_TOP_KEYS & set(cfg.keys())):
        yield from walk(cfg[key], key)


def _channel_faults(cfg: Config, loader: str) -> Iterator[str]:
    """Compare the channels that a pipeline loads with the means that are subtracted."""
    model = cfg.get('model')
    preprocessor = isinstance(model, dict) and model.get('data_preprocessor')
    preprocessor = preprocessor or cfg.get('data_preprocessor')
    mean = preprocessor.get('mean') if isinstance(preprocessor, dict) else None
    channels_of = {'color': 3, 'grayscale': 1}  # the file decides about the others

    def loaded(node: Any, path: str) -> Iterator[tuple[str, int]]:
        if isinstance(node, dict):
            color = node.get('color_type', 'color')
            is_loader = str(node.get('type')).rpartition('.')[2] == 'LoadImageFromFile'
            if is_loader and color in channels_of:
                yield path, channels_of[color]
            node = {key: value for key, value in node.items() if key != 'type'}
        elif isinstance(node, (list, tuple)):
            node = dict(enumerate(node))
        for key, value in node.items() if isinstance(node, dict) else ():
            yield from loaded(value, f'{path}.{key}')

    for path, channels in loaded(cfg[loader].get('dataset'), f'{loader}.dataset'):
        if isinstance(mean, (list, tuple)) and len(mean) not in (1, channels):
            yield (
                f'data_preprocessor.mean has {len(mean)} values, and {path} loads images of '
                f'{channels} channel{"s" * (channels > 1)}; set mean, std and the '
                "backbone's in_channels, or color_type"
            )


def _work_dir_faults(work_dir: Any) -> Iterator[str]:
    if not isinstance(work_dir, str) or '://' in work_dir:
        return
    path = Path(work_dir).absolute()
    if path.is_file():
        yield f'work_dir is {work_dir!r}, which is a file; give a folder'
        return
    while not path.exists():
        path = path.parent
    if path.is_file():
        yield f'work_dir is {work_dir!r}, which would lie below the file {str(path)!r}'
    elif not os.access(path, os.W_OK | os.X_OK):
        yield f'work_dir is {work_dir!r}, and {str(path)!r} cannot be written to'


def _node_faults(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from _node_faults(child, f'{path}.{index}')
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        yield from _number_faults(path, key, value)
        yield from _node_faults(value, f'{path}.{key}')
    if 'type' in node:
        yield from _type_faults(node, path)
    elif path in _TYPED:
        yield f'{path} has no type; name the class to build'


def _number_faults(path: str, key: str, value: Any) -> Iterator[str]:
    if key not in _NUMBERS or path.startswith(('custom_imports', 'env_cfg')):
        return
    lowest, is_whole = _NUMBERS[key]
    kind = 'an integer' if is_whole else 'a number'
    is_number = isinstance(value, (int, float))
    is_wrong = is_number and (not value >= lowest or (is_whole and value % 1 != 0))
    if is_wrong or isinstance(value, str):
        yield f'{path}.{key} is {value!r}; it has to be {kind} of {lowest} or more'


def _type_faults(node: dict, path: str) -> Iterator[str]:
    name = node['type']
    if not isinstance(name, str):
        if not callable(name):
            yield f'{path}.type is {name!r}; it has to be the name of a class'
        return
    found = _find(name, node.get('_scope_'))
    if not found:
        yield from _unresolved(name, path)
        return
    # A data set and a metric may share a name.
    faults = [list(_argument_faults(node, path, kind, cls)) for kind, cls in found]
    if all(faults):
        yield from faults[0]


def _argument_faults(node: dict, path: str, kind: str, cls: Any) -> Iterator[str]:
    last = path.rpartition('.')[2]
    if not inspect.isclass(cls) or not (kind in _PLAIN or last in _PLAIN_KEYS or path == 'model'):
        return
    name = node['type']
    known, is_open, annotations = _parameters(cls)
    taken = _TAKEN | _TAKEN_BY_REGISTRY.get(kind, set())
    yield from _unknown(path, node, known | taken, is_complete=not is_open, owner=name)
    for key, value in node.items():
        wanted = annotations.get(key)
        is_other = isinstance(value, str) != (wanted is str)
        if wanted in _KINDS and is_other and isinstance(value, (str, int, float, bool)):
            yield f'{path}.{key} is {value!r}; {name} wants {_KINDS[wanted]}'


def _find(name: str, scope: str | None) -> list[tuple[str, Any]]:
    """Return the registries that have a name, and what they have."""
    all_found = []
    default = DefaultScope.get_current_instance()
    scope = scope or (default.scope_name if default else 'mmengine')
    for registry in (*_REGISTRIES, *_registries_of(scope)):
        try:
            found = registry.children.get(scope, registry).get(name)
        except Exception:  # an import of a library that is not there
            continue
        if found is not None:
            all_found.append((registry.name, found))
    return all_found


@cache
def _registries_of(scope: str) -> tuple[Registry, ...]:
    """Return the registries of a library that are no children of mmengine's."""
    try:
        names = vars(import_module(f'{scope}.registry'))
    except ImportError:
        return ()
    found = [value for value in names.values() if isinstance(value, Registry)]
    return tuple(registry for registry in found if registry.parent is None)


def _unresolved(name: str, path: str) -> Iterator[str]:
    scope, _, short = name.rpartition('.')
    names = {key.lower(): key for registry in _REGISTRIES for key in _all_names(registry)}
    if short in names.values():
        return  # of a library that is not asked here, but may be asked where it is built
    near = [names[key] for key in get_close_matches(short.lower(), names, n=2, cutoff=0.75)]
    last = path.rpartition('.')[2]
    is_component = scope or last in (*_PLAIN_KEYS, 'dataset', 'sampler', 'optimizer', 'model')
    is_component = is_component or '.pipeline.' in path or 'hooks.' in path or '_evaluator' in path
    if is_component:  # others may name what is no class
        hint = f'did you mean {" or ".join(near)}?' if near else 'is its module imported?'
        yield f'{path}.type is {name!r}, which no library registers; {hint}'


def _all_names(registry: Registry) -> set[str]:
    names = set(registry.module_dict)
    for child in registry.children.values():
        names |= _all_names(child)
    return names


def _parameters(cls: type) -> tuple[set[str], bool, dict[str, Any]]:
    """Return the arguments of a class, whether it takes others, and their annotations."""
    known: set[str] = set()
    annotations: dict[str, Any] = {}
    is_open = False
    for base in cls.__mro__:
        init = vars(base).get('__init__')
        if init is None or base is object:
            continue
        try:
            parameters = list(inspect.signature(init).parameters.values())[1:]
        except (TypeError, ValueError):
            return known, True, annotations
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                known.add(parameter.name)
                annotations.setdefault(parameter.name, parameter.annotation)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return known, is_open, annotations
        # A data set and what is in here give the rest to the base class, others to anybody.
        to_base = issubclass(cls, Dataset) or base.__module__.startswith('acon_mm.')
        is_open = is_open or not to_base
    return known, True, annotations


def _unknown(
    path: str, node: dict, known: set[str], *, is_complete: bool, owner: str = ''
) -> Iterator[str]:
    for key in node:
        if key in known:
            continue
        near = get_close_matches(key, known, n=1, cutoff=0.75 if is_complete else 0.85)
        of = f' of {owner}' if owner else ''
        if near:
            yield f'{path}.{key} is no argument{of}; did you mean {near[0]}?'
        elif is_complete:
            yield f'{path}.{key} is no argument{of}; it has {", ".join(sorted(known - _TAKEN))}'
