"""What the metafiles beside the configs say of each model."""

from pathlib import Path

import yaml

from acon_mm._configs import CONFIG_ROOT

MIM_ROOT = CONFIG_ROOT.parent


def metafiles() -> list[Path]:
    """Return the paths of the metafiles that ``model-index.yml`` lists."""
    index = yaml.safe_load((MIM_ROOT / 'model-index.yml').read_text(encoding='utf-8'))
    return [MIM_ROOT / name for name in index['Import']]


def model_entries() -> dict[str, dict]:
    """Return the entries of all metafiles by the name of the model, in the order of the files."""
    entries = {}
    for path in metafiles():
        for entry in yaml.safe_load(path.read_text(encoding='utf-8'))['Models']:
            entries[entry['Name']] = entry
    return entries
