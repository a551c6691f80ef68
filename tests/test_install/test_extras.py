"""acon_mm works without the packages of its extras, and what needs one names it."""

import subprocess
import sys

import pytest

from acon_mm.analysis.curves import draw_curves
from acon_mm.apis import get_model
from acon_mm.datasets import load_digit_sources
from acon_mm.errors import UserError

OPTIONAL = ('mmdet', 'mmseg', 'ftfy', 'regex', 'sklearn', 'scipy', 'pandas', 'tabulate')


def test_classifier_is_built_without_the_packages_of_any_extra():
    # matplotlib is mmengine's own requirement, but acon_mm must not need it to be imported.
    code = (
        'import sys\n'
        f'sys.modules |= dict.fromkeys({(*OPTIONAL, "matplotlib")})\n'
        'import acon_mm.analysis.curves, acon_mm.analysis.table_format, acon_mm.datasets\n'
        'import acon_mm.engine.model_wrapper\n'
        'from acon_mm.apis import get_model\n'
        'get_model("resnet18_metaacon")\n'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ('missing', 'extra', 'function'),
    [
        ('mmdet', 'det', lambda: get_model('retinanet_r50_relu')),
        ('mmseg', 'seg', lambda: get_model('pspnet_r50_relu')),
        ('ftfy', 'seg', lambda: get_model('pspnet_r50_relu')),
        ('sklearn.datasets', 'digits', lambda: load_digit_sources('train')),
        ('matplotlib.figure', 'analysis', draw_curves),
    ],
)
def test_missing_package_is_named_with_the_extra_to_install(monkeypatch, missing, extra, function):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError) as error:
        function()
    message = str(error.value)
    assert '\n' not in message
    assert missing in message
    assert message.endswith(f"`pip install 'acon_mm[{extra}]'`")
