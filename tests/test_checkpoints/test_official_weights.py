import os
import resource
import runpy
import sys

import pytest
import torch

from acon_mm.apis.conversion import convert_official
from acon_mm.apis.models import get_model, list_models
from acon_mm.checkpoints.official_names import OFFICIAL_NAMES
from acon_mm.checkpoints.official_weights import OfficialLayout
from acon_mm.errors import CheckpointRefusedError, UserError

NAME = 'shufflenetv2_0.5x_metaacon'


def draw(name):
    """Return a random state dict of the authors' layout."""
    layout = OfficialLayout(get_model(name).state_dict(), OFFICIAL_NAMES[name])
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(7)
        if key.endswith('num_batches_tracked')
        else torch.rand(shape, generator=generator)
        for key, shape in layout.shapes.items()
    }


@pytest.fixture(scope='module')
def official():
    return draw(NAME)


@pytest.fixture
def convert(tmp_path):
    """Save something, convert the file, and return what was written."""

    def convert(content, model=NAME, reverse=False):
        torch.save(content, tmp_path / 'src.pth')
        convert_official(tmp_path / 'src.pth', tmp_path / 'dst.pth', model, reverse)
        return torch.load(tmp_path / 'dst.pth', weights_only=True)

    return convert


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_every_model_that_can_be_converted_can_be_built():
    assert set(OFFICIAL_NAMES) <= set(list_models())


def test_a_running_mean_is_lowered_by_the_bias_of_the_convolution_before(official, convert):
    ours = convert(official)['state_dict']
    mean = official['features.5.branch_main.4.running_mean']
    bias = official['features.5.branch_main.3.bias']
    assert torch.equal(ours['backbone.layer2.1.branch_main.1.bn.running_mean'], mean - bias)
    assert not any(key.endswith('conv.bias') for key in ours)


def test_what_needs_no_folding_keeps_its_values(official, convert):
    ours = convert(official)['state_dict']
    theirs, act = 'features.5.branch_main.2.', 'backbone.layer2.1.branch_main.0.activate.'
    for leaf in ('fc1.weight', 'fc1.bias', 'bn1.running_mean', 'bn2.running_var'):
        assert torch.equal(ours[act + leaf], official[theirs + leaf])
    assert torch.equal(ours[act + 'p1'], official[theirs + 'p1'].flatten())
    assert torch.equal(ours['head.fc.weight'], official['classifier.0.weight'])


@pytest.mark.parametrize('name', ['resnet18_aconc', NAME, 'tfnet_0.5'])
def test_ours_comes_back_from_the_authors_layout_bit_for_bit(name, convert):
    ours = get_model(name).state_dict()
    theirs = convert(ours, name, reverse=True)['state_dict']
    assert same(convert(theirs, name)['state_dict'], ours)


def test_the_nesting_and_the_prefix_of_a_file_make_no_difference(official, convert):
    plain = convert(official)['state_dict']
    prefixed = {f'module.{key}': value for key, value in official.items()}
    for content in (prefixed, {'state_dict': official}, {'epoch': 3, 'state_dict': prefixed}):
        assert same(convert(content)['state_dict'], plain)


def test_a_file_of_old_torch_without_counters_gets_zeros(official, convert):
    old = {k: v for k, v in official.items() if not k.endswith('num_batches_tracked')}
    ours = convert(old)['state_dict']
    expected = convert(official)['state_dict']
    assert ours.keys() == expected.keys()
    for key, value in ours.items():
        assert value == 0 if 'num_batches' in key else torch.equal(value, expected[key])


def test_a_converted_file_says_what_it_is(official, convert):
    assert convert({'state_dict': official})['meta'] == {
        'source': 'src.pth',
        'model': NAME,
        'preprocessing': {
            'channel_order': 'BGR',
            'value_range': [0, 255],
            'mean': None,
            'std': None,
        },
    }


def test_a_converted_file_loads_as_a_classifier_and_as_a_backbone(official, convert, tmp_path):
    ours = convert(official)['state_dict']
    path = str(tmp_path / 'dst.pth')
    assert same(get_model(NAME, pretrained=path).state_dict(), ours)
    backbone = get_model(NAME).backbone
    backbone.init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    backbone.init_weights()
    prefixed = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    assert same(prefixed, {k: v for k, v in ours.items() if k.startswith('backbone.')})


def without(state_dict, key):
    return {k: v for k, v in state_dict.items() if k != key}


BAD = {
    'a key is missing': (
        lambda official: without(official, 'features.3.branch_main.1.running_var'),
        "lacks 'features.3.branch_main.1.running_var' of shape (24,); its first key is "
        "'first_conv.0.weight'",
    ),
    'a bias that is folded is missing': (
        lambda official: without(official, 'first_conv.0.bias'),
        "lacks 'first_conv.0.bias' of shape (24,)",
    ),
    'a slope has our shape': (
        lambda official: official | {'first_conv.2.p1': torch.ones(24)},
        "its 'first_conv.2.p1' has the shape (24,), not (1, 24, 1, 1)",
    ),
    'a key is unknown': (
        lambda official: official | {'features.0.branch_main.2.beta': torch.ones(1, 24, 1, 1)},
        "its 'features.0.branch_main.2.beta' of shape (1, 24, 1, 1) does not belong",
    ),
    'no state dict': (lambda official: {'epoch': 3}, 'holds no state dict'),
    'an empty dict': (lambda official: {'state_dict': {}}, 'holds no state dict'),
    'a bare tensor': (lambda official: torch.ones(2, 2), 'holds no state dict'),
    'keys that are no names': (lambda official: {0: torch.ones(1)}, 'holds no state dict'),
    'a list': (lambda official: [torch.ones(1)], 'holds no state dict'),
}


@pytest.mark.parametrize('case', BAD)
def test_a_file_that_does_not_fit_is_refused_with_the_first_difference(
    official, convert, tmp_path, case
):
    edit, message = BAD[case]
    with pytest.raises(UserError) as error:
        convert(edit(official))
    assert message in str(error.value)
    assert 'src.pth' in str(error.value)
    assert not (tmp_path / 'dst.pth').exists()


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ('shufflenetv2_0.5x_aconc', "lacks 'first_conv.2.beta' of shape (1, 24, 1, 1)"),
        ('shufflenetv2_1.0x_metaacon', "'first_conv.2.fc1.weight' has the shape (8, 24, 1, 1)"),
        ('resnet50_metaacon', "lacks 'conv1.weight' of shape (64, 3, 7, 7)"),
        ('resnet50_relu', "model='resnet50_relu' is not built by the authors' code"),
    ],
)
def test_the_file_of_another_model_is_refused(official, convert, model, message):
    with pytest.raises(UserError) as error:
        convert(official, model)
    assert message in str(error.value)


def test_a_file_of_the_wrong_direction_is_refused(official, convert):
    with pytest.raises(UserError, match=r"not our .*: it lacks 'backbone\.conv1\.conv\.weight'"):
        convert(official, reverse=True)
    with pytest.raises(UserError, match=r"not the authors' .*: it lacks 'first_conv\.0\.weight'"):
        convert(get_model(NAME).state_dict())


class Harmful:
    def __reduce__(self):
        return os.mkdir, ('payload',)


def test_a_harmful_file_is_refused_and_does_not_run(official, convert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointRefusedError, match='mkdir'):
        convert({'state_dict': official, 'extra': Harmful()})
    assert sorted(os.listdir(tmp_path)) == ['src.pth']


@pytest.mark.parametrize(
    ('dst', 'message'),
    [
        ('src.pth', 'the same file as src'),
        ('nowhere/dst.pth', 'there is no folder'),
        ('folder', 'is a folder'),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(official, tmp_path, dst, message):
    (tmp_path / 'folder').mkdir()
    torch.save(official, tmp_path / 'src.pth')
    with pytest.raises(UserError, match=message):
        convert_official(tmp_path / 'src.pth', tmp_path / dst, NAME)
    assert sorted(os.listdir(tmp_path)) == ['folder', 'src.pth']
    assert same(torch.load(tmp_path / 'src.pth'), official)


@pytest.fixture
def full_disk():
    """Let no file grow beyond a megabyte, as on a disk that has no more left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_file(official, tmp_path, request):
    torch.save(official, tmp_path / 'src.pth')
    (tmp_path / 'dst.pth').write_bytes(b'old')
    request.getfixturevalue('full_disk')
    with pytest.raises(UserError, match=r"dst\.pth' cannot be written: .*File too large"):
        convert_official(tmp_path / 'src.pth', tmp_path / 'dst.pth', NAME)
    assert (tmp_path / 'dst.pth').read_bytes() == b'old'
    assert sorted(os.listdir(tmp_path)) == ['dst.pth', 'src.pth']


def test_the_script_converts_there_and_back(official, tmp_path, script):
    src, dst, back = (str(tmp_path / name) for name in ('src.pth', 'dst.pth', 'back.pth'))
    torch.save(official, src)
    script(src, dst, '--model', NAME)
    script(dst, back, '--model', NAME, '--reverse')
    restored = torch.load(back, weights_only=True)
    assert restored['meta']['source'] == 'dst.pth'
    assert restored['state_dict'].keys() == official.keys()


def test_the_script_ends_with_one_sentence_and_a_status(tmp_path, script, capsys):
    with pytest.raises(SystemExit) as end:
        script('nowhere.pth', str(tmp_path / 'dst.pth'), '--model', NAME)
    assert end.value.code == 1
    message = "checkpoint 'nowhere.pth' does not exist; give the path of a .pth file"
    assert capsys.readouterr().err == f'error: {message}\n'


@pytest.fixture
def script(repo_root, monkeypatch):
    """Run the script with some arguments."""
    path = repo_root / 'tools' / 'model_converters' / 'official_to_acon_mm.py'

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(path), *arguments])
        runpy.run_path(str(path), run_name='__main__')

    return run
