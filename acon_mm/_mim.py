"""The configs and metafiles that acon_mm ships, and how OpenMMLab's libraries find them."""

import warnings
from difflib import get_close_matches
from pathlib import Path

MIM_ROOT = Path(__file__).absolute().parent / '.mim'
CONFIG_ROOT = MIM_ROOT / 'configs'


def announce_configs() -> None:
    """Let ``_base_ = ['acon_mm::...']`` of any config find the configs of acon_mm.

    mmengine knows the packages of OpenMMLab only. It asks pip for the folder of the package named
    here, which for an editable install is not where the package lies, unless pip does not know
    the name: then it asks Python. Hence the name of a module.
    """
    from mmengine.config.utils import MODULE2PACKAGE  # not there where torch is alone

    MODULE2PACKAGE.setdefault('acon_mm', 'acon_mm.registry')


def announce_models() -> None:
    """Let ``mmpretrain.get_model`` and ``mmpretrain.list_models`` know the classifiers here.

    A name that another package has registered before costs a warning and the models that follow
    it in the same metafile.
    """
    from mmpretrain.apis.model import ModelHub  # takes seconds, which `import acon_mm` should not

    for path in metafiles():
        if path.parent.name != 'classification':  # mmpretrain builds no detectors
            continue
        try:
            ModelHub.register_model_index(path, config_prefix=MIM_ROOT)
        except ValueError as error:
            warnings.warn(
                f'mmpretrain.get_model does not know all models of {path}: {error}; '
                'acon_mm.apis.get_model knows them',
                stacklevel=2,
            )


def config_path(name: str) -> str:
    """Return the absolute path of a config that acon_mm ships.

    A config can inherit from it without anything having imported acon_mm before::

        _base_ = [__import__('acon_mm').config_path('detection/retinanet_r50_metaacon.py')]

    mmdet's and mmsegmentation's inferencers know the names of their own models alone; they take
    the path::

        DetInferencer(acon_mm.config_path('retinanet_r50_metaacon'), weights)

    Args:
        name: The path of the config below ``configs/``, such as
            ``'detection/retinanet_r50_metaacon.py'``, or the name of a model, such as
            ``'retinanet_r50_metaacon'``.

    Raises:
        FileNotFoundError: If there is no such config. The message names the nearest ones.
    """
    path = CONFIG_ROOT / name
    if path.is_file():
        return str(path)
    models = named_configs()
    if name in models:
        return str(models[name])
    files = [p.relative_to(CONFIG_ROOT).as_posix() for p in CONFIG_ROOT.rglob('*.py')]
    near = get_close_matches(name, [*models, *sorted(files)], n=3, cutoff=0.5)
    if not near:
        hint = f'the configs lie below {CONFIG_ROOT}'
    else:
        hint = f'did you mean {" or ".join(map(repr, near))}?'
    raise FileNotFoundError(f'acon_mm has no config {name!r}; {hint}')


def named_configs() -> dict[str, Path]:
    """Return the paths of the configs outside of ``_base_`` by the names of their models."""
    return {path.stem: path for path in sorted(CONFIG_ROOT.glob('[!_]*/*.py'))}


def metafiles() -> list[Path]:
    """Return the paths of the metafiles that ``model-index.yml`` lists."""
    import yaml  # comes with mmengine

    index = yaml.safe_load((MIM_ROOT / 'model-index.yml').read_text(encoding='utf-8'))
    return [MIM_ROOT / name for name in index['Import']]


def model_entries() -> dict[str, dict]:
    """Return the entries of all metafiles by the name of the model, in the order of the files."""
    import yaml  # comes with mmengine

    entries = {}
    for path in metafiles():
        for entry in yaml.safe_load(path.read_text(encoding='utf-8'))['Models']:
            entries[entry['Name']] = entry
    return entries
