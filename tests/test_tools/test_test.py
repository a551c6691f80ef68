import pytest
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import TRANSFORMS
from mmengine.config import Config, ConfigDict

from acon_mm import apis
from acon_mm.apis import testing
from acon_mm.errors import UserError

HOOKS = {
    'mmdet.DetVisualizationHook': {'draw': True, 'test_out_dir': '{}'},
    'mmseg.SegVisualizationHook': {'draw': True, 'interval': 1},
    'mmpretrain.VisualizationHook': {'enable': True, 'interval': 1, 'out_dir': '{}'},
}


@pytest.fixture
def built(monkeypatch):
    """Collect the configs that runners would be built from."""
    configs = []

    class Runner:
        def test(self):
            return {'seen': 8}

    def build(cfg):
        configs.append(cfg)
        return Runner()

    monkeypatch.setattr(testing, 'build_runner', build)
    return configs


@pytest.fixture
def config(toy_config, tmp_path):
    (tmp_path / 'a.pth').touch()
    return toy_config


def refusal(*args, **kwargs):
    with pytest.raises(UserError) as error:
        apis.test(*args, **kwargs)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_the_checkpoint_is_loaded_and_the_metrics_come_back(config, built):
    metrics = apis.test(config, 'a.pth', cfg_options={'resume': True})
    assert metrics == {'seen': 8}
    assert (built[0].load_from, built[0].resume) == ('a.pth', False)


def test_a_missing_checkpoint_is_named(config):
    assert "checkpoint 'gone.pth' does not exist" in refusal(config, 'gone.pth')


@pytest.mark.parametrize('out', ['predictions.json', 'predictions', 'toy.py/a.pkl'])
def test_predictions_that_cannot_be_written_are_refused_at_once(config, built, out):
    assert f'out={out!r}' in refusal(config, 'a.pth', out=out)
    assert built == []


@pytest.mark.parametrize(
    ('scope', 'kind'), [('mmdet', 'mmdet.DumpDetResults'), ('mmseg', 'DumpResults')]
)
def test_predictions_are_written_beside_the_metrics(config, built, tmp_path, scope, kind):
    apis.test(config, 'a.pth', out='new/p.pkl', cfg_options={'default_scope': scope})
    assert [metric.type for metric in built[0].test_evaluator] == ['ToyMetric', kind]
    assert built[0].test_evaluator[1].out_file_path == 'new/p.pkl'
    assert (tmp_path / 'new').is_dir()


def test_a_segmentor_writes_label_maps_into_a_folder_and_no_scores(config, built, tmp_path):
    iou = {'type': 'mmseg.IoUMetric', 'iou_metrics': ['mIoU']}
    options = {'default_scope': 'mmseg', 'test_evaluator': iou}
    apis.test(config, 'a.pth', out='new/maps', cfg_options=options)
    assert built[0].test_evaluator == {**iou, 'output_dir': 'new/maps'}
    assert (tmp_path / 'new/maps').is_dir()
    options = {'default_scope': 'mmseg'}
    assert 'test_evaluator has none' in refusal(config, 'a.pth', out='maps', cfg_options=options)


@pytest.mark.parametrize('kind', HOOKS)
def test_pictures_are_drawn_by_each_librarys_hook(config, built, tmp_path, kind):
    options = {'default_hooks.visualization.type': kind, 'visualizer.type': 'Visualizer'}
    apis.test(config, 'a.pth', show_dir='pictures', cfg_options=options)
    folder = str(tmp_path / 'pictures')
    expected = {key: folder if value == '{}' else value for key, value in HOOKS[kind].items()}
    hook = built[0].default_hooks.visualization
    assert {**hook, **expected} == hook
    if kind.startswith('mmseg'):
        assert built[0].visualizer.save_dir == folder


def test_the_hook_may_be_given_as_its_class(config, built, tmp_path):
    cfg = Config.fromfile(config)
    cfg.default_hooks.visualization = {'type': DetVisualizationHook}
    apis.test(cfg, 'a.pth', show_dir='pictures')
    assert built[0].default_hooks.visualization.test_out_dir == str(tmp_path / 'pictures')


def test_pictures_without_a_hook_are_refused(config):
    message = refusal(config, 'a.pth', show_dir='pictures')
    assert "default_hooks.visualization is 'none'" in message


def test_test_time_augmentation_is_the_configs_own(config, built):
    cfg = Config.fromfile(config)
    cfg.tta_model = {'type': 'Merge'}
    assert 'tta_pipeline' in refusal(cfg, 'a.pth', tta=True)
    cfg.tta_pipeline = [{'type': 'Views'}]
    apis.test(cfg, 'a.pth', tta=True)
    assert built[0].model == {'type': 'Merge', 'module': {'type': 'ToyModel'}}
    assert built[0].test_dataloader.dataset.pipeline == [{'type': 'Views'}]


def test_every_part_of_joined_datasets_gets_the_views(config, built):
    cfg = Config.fromfile(config)
    cfg.tta_model, cfg.tta_pipeline = {'type': 'Merge'}, [{'type': 'Views'}]
    part = cfg.test_dataloader.dataset
    repeated = {'type': 'RepeatDataset', 'times': 1, 'dataset': part}
    cfg.test_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': [part, repeated]}
    apis.test(cfg, 'a.pth', tta=True)
    joined = built[0].test_dataloader.dataset
    assert 'pipeline' not in joined
    assert joined.datasets[0].pipeline == [{'type': 'Views'}]
    assert joined.datasets[1].dataset.pipeline == [{'type': 'Views'}]


def test_detectors_without_their_own_augmentation_are_flipped(config, built):
    cfg = Config.fromfile(config)
    cfg.default_scope = 'mmdet'
    pipeline = [{'type': 'mmcv.LoadImageFromFile'}, {'type': 'mmdet.PackDetInputs'}]
    cfg.test_dataloader.dataset = ConfigDict(type='mmdet.CocoDataset', pipeline=pipeline)
    apis.test(cfg, 'a.pth', tta=True)
    assert built[0].model.type == 'mmengine.DetTTAModel'
    pipeline = built[0].test_dataloader.dataset.pipeline
    assert [step.type for step in pipeline] == ['mmcv.LoadImageFromFile', 'mmcv.TestTimeAug']
    assert 'flip' in TRANSFORMS.build(pipeline[1].transforms[1][0]).meta_keys


def test_a_config_that_cannot_be_tested_is_refused(config, tmp_path):
    (tmp_path / 'empty.py').write_text('a = 1')
    assert 'has no model, test_dataloader' in refusal('empty.py', 'a.pth')
    options = {'test_dataloader.dataset.data_prefix.img': 'gone/'}
    assert 'data_prefix.img points to' in refusal(config, 'a.pth', cfg_options=options)
