"""What is compared differs in the activation alone, budget and data included."""

import sys
from pathlib import Path

import pytest

from acon_mm.analysis.transfer_identity import differing_keys, step_identity
from acon_mm.analysis.transfer_plan import (
    PRESETS,
    ablation_variants,
    activation_variants,
    plan_chain,
)
from acon_mm.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from transfer_fake import plan

BACKBONE = 'config.model.backbone'

STEPS = ['pretrain', 'pretrain_test', 'detection', 'detection_test']
STEPS += ['segmentation', 'segmentation_test']
# What the ablation takes. By default the slopes of the digits start as in the authors' code and
# those at full size as in the paper; basic blocks replace both activations, bottlenecks one.
STARTED = {'digits': 'paper', 'paper': 'normal'}
PLACED = {'digits': 'one', 'paper': 'all'}


def differing(step, other):
    """Return in what two steps differ, besides the steps before them."""
    return set(differing_keys(step_identity(step), step_identity(other))) - {'after'}


@pytest.mark.parametrize('preset', PRESETS)
def test_activations_differ_in_the_backbones_activation_alone(preset, tmp_path):
    relu, *others = (
        plan_chain(PRESETS[preset], variant, 0, tmp_path) for variant in activation_variants()
    )
    assert len(others) == 2
    for chain in others:
        assert [step.name for step in chain.steps] == STEPS
        for step, other in zip(chain.steps, relu.steps, strict=True):
            keys = differing(step, other)
            assert keys
            assert all(key.startswith(f'{BACKBONE}.act_cfg') for key in keys), keys


@pytest.mark.parametrize('preset', PRESETS)
def test_an_ablation_changes_one_thing_and_shares_its_default_with_the_table(preset, tmp_path):
    default, *others = (
        plan_chain(PRESETS[preset], variant, 0, tmp_path)
        for variant in ablation_variants(PRESETS[preset])
    )
    (row,) = activation_variants(['metaacon'])
    assert default.folder == plan_chain(PRESETS[preset], row, 0, tmp_path).folder
    changed = {
        'act_cfg.init': STARTED[preset],
        'act_cfg.norm_cfg': None,
        'placement': PLACED[preset],
    }
    for chain, (key, value) in zip(others, changed.items(), strict=True):
        for step, other in zip(chain.steps, default.steps, strict=True):
            keys = differing(step, other)
            assert keys
            assert all(found.startswith(f'{BACKBONE}.{key}') for found in keys), keys
            assert step_identity(step)[f'{BACKBONE}.{key}'] == value


def test_the_detector_and_the_segmentor_start_from_the_classifier_of_their_chain(tmp_path):
    chain, *_ = plan(tmp_path)
    pretrain, _, detection, detection_test, segmentation, segmentation_test = chain.steps
    assert pretrain.after is None
    assert detection.after is segmentation.after is pretrain
    assert (detection_test.after, segmentation_test.after) == (detection, segmentation)


def test_options_reach_all_tasks_or_the_one_they_name(tmp_path):
    options = {'optim_wrapper.optimizer.lr': 1, 'detection.train_cfg.max_epochs': 2}
    chain, *_ = plan(tmp_path, options=options)
    for step in chain.steps:
        assert step.options['optim_wrapper.optimizer.lr'] == 1
        assert step.options.get('train_cfg.max_epochs') == (
            2 if step.task == 'detection' else None
        )


@pytest.mark.parametrize(
    ('key', 'instead'),
    [
        ('randomness.seed', 'give --seeds'),
        ('work_dir', 'give --work-dir'),
        ('detection.load_from', 'start from its classifier'),
        ('segmentation.model.backbone.init_cfg.checkpoint', 'start from its classifier'),
        ('model.backbone', 'start from its classifier'),
        ('resume', 'goes on by itself'),
    ],
)
def test_what_the_chain_sets_itself_is_refused_as_an_option(tmp_path, key, instead):
    own = key.partition('.')[2] if key.startswith(('detection', 'segmentation')) else key
    with pytest.raises(UserError, match=f'options names {own!r}, .*{instead}'):
        plan(tmp_path, options={key: 1})


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="'mish', which is unknown; use some of relu, swish"):
        activation_variants(['relu', 'mish'])
