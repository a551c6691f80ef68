"""Predictions of our functions are those of the libraries' own, which take our configs too."""

import json
import pickle
import re
import shutil
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.hub import get_model as get_hub_model
from mmpretrain import FeatureExtractor, ImageClassificationInferencer, inference_model
from mmseg.apis import MMSegInferencer, init_model
from mmseg.apis import inference_model as inference_segmentor

from acon_mm import config_path
from acon_mm.apis import get_model, inference, list_models
from acon_mm.apis import test as run_test
from acon_mm.apis.config import load_config
from acon_mm.apis.demo import demo
from acon_mm.errors import UserError

NAMES = {
    'mmpretrain': 'resnet18_metaacon_digits',
    'mmdet': 'retinanet_r18_metaacon_digits',
    'mmseg': 'pspnet_r18_metaacon_digits',
}
CLASSES = tuple('zyxwvutsrqp')


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Two pictures of equal size in a folder."""
    folder = tmp_path_factory.mktemp('pictures')
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=np.uint8)
        mmcv.imwrite(noise, str(folder / f'{seed}.png'))
    return [str(folder / f'{seed}.png') for seed in range(2)]


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """A checkpoint of each task with names of classes, as a run saves it."""
    folder = tmp_path_factory.mktemp('checkpoints')
    paths = {}
    for scope, name in NAMES.items():
        torch.manual_seed(0)
        model = get_model(name)
        meta = {'dataset_meta': {'classes': CLASSES, 'palette': [(i, i, i) for i in range(11)]}}
        paths[scope] = str(folder / f'{name}.pth')
        torch.save({'state_dict': model.state_dict(), 'meta': meta}, paths[scope])
    return paths


@pytest.fixture(scope='module')
def models(checkpoints):
    return {scope: get_model(NAMES[scope], checkpoints[scope]) for scope in NAMES}


def test_a_classifier_predicts_what_mmpretrain_predicts(models, checkpoints, pictures):
    ours = inference(models['mmpretrain'], pictures)
    path = config_path(NAMES['mmpretrain'])
    stock = ImageClassificationInferencer(path, checkpoints['mmpretrain'])(pictures)
    for sample, result in zip(ours, stock, strict=True):
        assert np.array_equal(sample.pred_score.numpy(), result['pred_scores'])
        assert result['pred_class'] == CLASSES[int(sample.pred_label)]
    assert 'pred_label' in inference_model('shufflenetv2_0.5x_metaacon', pictures[0])
    features = FeatureExtractor(models['mmpretrain'])(pictures[0], stage='backbone')
    assert features[0][0].shape == (512, 3, 3)


def test_a_detector_predicts_what_mmdet_predicts(models, checkpoints, pictures):
    ours = inference(models['mmdet'], pictures)
    detector = init_detector(config_path(NAMES['mmdet']), checkpoints['mmdet'], device='cpu')
    inferencer = DetInferencer(
        config_path(NAMES['mmdet']), checkpoints['mmdet'], device='cpu', show_progress=False
    )
    batch = inferencer(pictures[:1], no_save_vis=True, return_datasamples=True)['predictions']
    assert len(ours[0].pred_instances) > 0
    assert detector.dataset_meta['classes'] == models['mmdet'].dataset_meta['classes'] == CLASSES
    for found in (*inference_detector(detector, pictures[:1]), *batch):
        for key in ('labels', 'scores', 'bboxes'):
            assert torch.equal(found.pred_instances[key], ours[0].pred_instances[key])
    # mmdet's function takes our model, and an array in place of a file.
    again = inference_detector(models['mmdet'], mmcv.imread(pictures[0]))
    assert torch.equal(again.pred_instances.bboxes, ours[0].pred_instances.bboxes)


def test_a_segmentor_predicts_what_mmseg_predicts(models, checkpoints, pictures):
    ours = inference(models['mmseg'], pictures)
    segmentor = init_model(config_path(NAMES['mmseg']), checkpoints['mmseg'], device='cpu')
    stock = inference_segmentor(segmentor, pictures)
    inferencer = MMSegInferencer(config_path(NAMES['mmseg']), checkpoints['mmseg'], device='cpu')
    for sample, other, label in zip(ours, stock, inferencer(pictures)['predictions'], strict=True):
        assert torch.equal(sample.pred_sem_seg.data, other.pred_sem_seg.data)
        assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), label)
    assert segmentor.dataset_meta['classes'] == models['mmseg'].dataset_meta['classes']


@pytest.mark.parametrize('scope', NAMES)
def test_an_array_is_predicted_as_its_file(scope, models, pictures):
    of_file, of_array = (
        inference(models[scope], image)[0].to_dict()
        for image in (pictures[0], mmcv.imread(pictures[0]))
    )
    for key in of_file:
        if key.startswith('pred_'):
            assert str(of_file[key]) == str(of_array[key])


@pytest.mark.parametrize(
    'image',
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), 'none.png'],
)
def test_what_is_no_picture_is_refused(image, models):
    with pytest.raises(UserError) as error:
        inference(models['mmpretrain'], image)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('scope', NAMES)
def test_a_folder_is_predicted_as_its_pictures(scope, models, pictures, tmp_path):
    folder = str(Path(pictures[0]).parent)
    samples = inference(models[scope], folder)
    for sample, one in zip(samples, inference(models[scope], pictures), strict=True):
        of_folder, of_path = (re.sub(r'0x\w+', '', str(s.to_dict())) for s in (sample, one))
        assert of_folder == of_path
    with pytest.raises(UserError, match='has no pictures'):
        inference(models[scope], tmp_path)


@pytest.mark.parametrize('scope', NAMES)
def test_a_broken_file_is_named(scope, models, tmp_path):
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'no picture')
    with pytest.raises(UserError, match=r"broken\.jpg' cannot be decoded"):
        inference(models[scope], broken)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_stock_inferencers_predict_a_folder(scope, checkpoints, pictures):
    folder = str(Path(pictures[0]).parent)
    if scope == 'mmdet':
        inferencer = DetInferencer(
            config_path(NAMES[scope]), checkpoints[scope], device='cpu', show_progress=False
        )
        found = inferencer(folder, no_save_vis=True, return_datasamples=True)['predictions']
    else:
        inferencer = MMSegInferencer(config_path(NAMES[scope]), checkpoints[scope], device='cpu')
        found = inferencer(folder, return_datasamples=True)
    assert len(found) == len(pictures)


def test_a_data_preprocessor_beside_the_model_counts_as_in_a_test(
    checkpoints, digit_scenes, tmp_path
):
    # mmpretrain's configs have it there.
    cfg = load_config(config_path(NAMES['mmpretrain']))
    del cfg.model.data_preprocessor
    cfg.data_preprocessor = dict(mean=[120.0, 110.0, 100.0], std=[6.0, 5.0, 4.0], to_rgb=True)
    cfg.test_dataloader.dataset.data_root = str(digit_scenes / 'imagenet')
    out = tmp_path / 'out.pkl'
    run_test(cfg, checkpoints['mmpretrain'], out=out, work_dir=tmp_path / 'work')
    tested = pickle.loads(out.read_bytes())
    model = get_model(cfg, checkpoints['mmpretrain'])
    samples = inference(model, [result['img_path'] for result in tested])
    assert len(tested) > 1
    for sample, result in zip(samples, tested, strict=True):
        torch.testing.assert_close(sample.pred_score, result['pred_score'])


def test_digit_configs_have_names():
    assert set(NAMES.values()) <= set(list_models())
    with pytest.raises(UserError, match="did you mean 'resnet18_metaacon_digits'"):
        get_model('resnet18_metaacon_digit')


@pytest.mark.parametrize('scope', NAMES)
def test_a_config_of_the_package_is_a_model_for_us_and_for_mmengines_hub(scope):
    folder = {'mmpretrain': 'classification', 'mmdet': 'detection', 'mmseg': 'segmentation'}
    name = f'acon_mm::{folder[scope]}/{NAMES[scope]}.py'
    hub = get_hub_model(name)
    assert str(hub) == str(get_model(name)) == str(get_model(NAMES[scope]))


@pytest.mark.parametrize('scope', NAMES)
def test_demo_writes_pictures_and_one_json_and_names_what_it_skips(
    scope, checkpoints, pictures, tmp_path, capsys
):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'broken.jpg').write_bytes(b'no picture')
    shutil.copy(pictures[1], tmp_path / 'in' / '0.PNG')
    out = tmp_path / 'out'
    inputs = [pictures[0], tmp_path / 'in', tmp_path / 'absent.png']
    demo(inputs, NAMES[scope], checkpoints[scope], out)
    result = json.loads((out / 'predictions.json').read_text())
    assert set(result['predictions']) == {pictures[0], str(tmp_path / 'in' / '0.PNG')}
    assert set(result['skipped']) == {str(tmp_path / 'in' / 'broken.jpg'), str(inputs[2])}
    assert capsys.readouterr().out.count('skipped: ') == 2
    for name in ('0.png', '0_1.png'):
        assert mmcv.imread(str(out / name)).ndim == 3
    (record,) = result['predictions'][pictures[0]]
    if scope == 'mmseg':
        labels = mmcv.imread(str(out / record['seg_map']), 'unchanged')
        share = {CLASSES[v]: float((labels == v).mean()) for v in np.unique(labels)}
        assert record['share'] == pytest.approx(share)
    elif scope == 'mmdet':
        assert record['classes'] == [CLASSES[label] for label in record['labels']]
        assert min(record['scores'], default=1) >= 0.3
    else:
        assert record['class'] == CLASSES[record['label']]


def test_demo_predicts_each_frame_of_a_video(checkpoints, pictures, tmp_path):
    frames = tmp_path / 'frames'
    frames.mkdir()
    for number in range(3):
        mmcv.imwrite(mmcv.imread(pictures[number % 2]), str(frames / f'{number:06d}.jpg'))
    video = str(tmp_path / 'film.avi')
    mmcv.frames2video(str(frames), video, fps=5, fourcc='MJPG', show_progress=False)
    out = tmp_path / 'out'
    result = demo([video], NAMES['mmdet'], checkpoints['mmdet'], out, score_thr=0.5)
    assert len(result['predictions'][video]) == 3
    film = mmcv.VideoReader(str(out / 'film.mp4'))
    assert (len(film), film.width, film.height) == (3, 96, 96)


def test_demo_without_a_readable_input_is_an_error(checkpoints, tmp_path):
    with pytest.raises(UserError, match='hold nothing that can be read'):
        demo([tmp_path / 'x.png'], NAMES['mmdet'], checkpoints['mmdet'], tmp_path / 'out')
