"""How other projects reach the configs of acon_mm."""

from difflib import get_close_matches
from pathlib import Path

from mmengine.config.utils import MODULE2PACKAGE

CONFIG_ROOT = Path(__file__).absolute().parent / '.mim' / 'configs'


def announce_configs() -> None:
    """Let ``_base_ = ['acon_mm::...']`` of any config find the configs of acon_mm.

    mmengine knows the packages of OpenMMLab only. It asks pip for the folder of the package named
    here, which for an editable install is not where the package lies, unless pip does not know
    the name: then it asks Python. Hence the name of a module.
    """
    MODULE2PACKAGE.setdefault('acon_mm', 'acon_mm.registry')


def config_path(name: str) -> str:
    """Return the absolute path of a config that acon_mm ships.

    A config can inherit from it without anything having imported acon_mm before::

        _base_ = [__import__('acon_mm').config_path('detection/retinanet_r50_metaacon.py')]

    Args:
        name: The path of the config below ``configs/``, such as
            ``'detection/retinanet_r50_metaacon.py'``.

    Raises:
        FileNotFoundError: If there is no such config. The message names the nearest ones.
    """
    path = CONFIG_ROOT / name
    if path.is_file():
        return str(path)
    known = sorted(p.relative_to(CONFIG_ROOT).as_posix() for p in CONFIG_ROOT.rglob('*.py'))
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if not near:
        hint = f'the configs lie below {CONFIG_ROOT}'
    else:
        hint = f'did you mean {" or ".join(map(repr, near))}?'
    raise FileNotFoundError(f'acon_mm has no config {name!r}; {hint}')
