import pytest
import torch

from acon_mm.apis import get_model, list_models
from acon_mm.errors import UserError

NAME = 'shufflenetv2_0.5x_metaacon'


def refusal(*args, **kwargs):
    with pytest.raises(UserError) as error:
        get_model(*args, **kwargs)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_models_are_listed_by_a_pattern_for_all_tasks():
    assert list_models('resnet18_acon?') == ['resnet18_aconb', 'resnet18_aconc']
    names = list_models()
    assert names == sorted(names)
    assert {NAME, 'tfnet_2.0', 'senet154_aconc', 'retinanet_r50_metaacon'} <= set(names)
    assert list_models('none*') == []


def test_a_model_comes_in_eval_mode_with_its_config():
    model = get_model(NAME)
    assert not model.training
    assert model.cfg.model.backbone.act_cfg == dict(type='acon_mm.MetaAcon', reduction=8)
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 1000)


def test_arguments_change_the_model():
    model = get_model(NAME, backbone=dict(out_indices=(1, 3)), head=dict(num_classes=7))
    with torch.no_grad():
        feats = model.extract_feat(torch.rand(1, 3, 64, 64), stage='backbone')
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 7)
    assert [feat.shape[1] for feat in feats] == [96, 1024]


def test_a_detector_is_built_by_its_name():
    assert type(get_model('retinanet_r50_metaacon')).__name__ == 'RetinaNet'


@pytest.mark.parametrize('wrapped', [True, False])
def test_a_checkpoint_is_loaded(wrapped, tmp_path):
    source = get_model(NAME)
    torch.nn.init.normal_(source.head.fc.weight)
    state = source.state_dict()
    torch.save({'state_dict': state} if wrapped else state, tmp_path / 'mine.pth')
    loaded = get_model(NAME, pretrained=tmp_path / 'mine.pth').state_dict()
    assert all(torch.equal(state[key], loaded[key]) for key in state)


def test_a_checkpoint_of_data_parallel_is_loaded(tmp_path):
    state = get_model(NAME).state_dict()
    torch.nn.init.normal_(state['head.fc.weight'])
    torch.save({f'module.{key}': value for key, value in state.items()}, tmp_path / 'mine.pth')
    loaded = get_model(NAME, pretrained=tmp_path / 'mine.pth').state_dict()
    assert all(torch.equal(state[key], loaded[key]) for key in state)


@pytest.mark.parametrize('content', [torch.zeros(2), {0: torch.zeros(2)}, {'state_dict': {}}])
def test_a_file_without_a_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / 'odd.pth')
    assert "odd.pth' holds no state dict" in refusal(NAME, pretrained=tmp_path / 'odd.pth')


def test_a_checkpoint_of_another_model_is_refused_with_the_first_difference(tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(get_model('shufflenetv2_0.5x_aconc').state_dict(), path)
    message = refusal(NAME, pretrained=path)
    assert 'backbone.conv1.activate.fc1.weight is absent in it' in message
    state = get_model(NAME).state_dict()
    torch.save(state | {'more': torch.zeros(1)}, path)
    assert 'more is (1,) in it and absent in the model' in refusal(NAME, pretrained=path)


def test_a_wrong_name_or_file_is_one_sentence(tmp_path):
    assert f"did you mean '{NAME}'" in refusal('shufflenetv2_0.5_metaacon')
    assert 'list_models() has all names' in refusal('xyz')
    assert 'nowhere.pth' in refusal(NAME, pretrained=tmp_path / 'nowhere.pth')
    assert 'official_to_acon_mm.py' in refusal(NAME, pretrained=True)
