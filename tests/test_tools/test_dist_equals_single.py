"""Two processes of batch 2 take the steps of one process of batch 4."""

from pathlib import Path

import torch

from acon_mm.checkpoints import load_from_local

ROOT = Path(__file__).parents[2]

# The digit classifier with what makes a step depend on more than the batch's samples switched off:
# batch statistics, augmentation and the order of the data. SGD instead of AdamW, whose first steps
# have the size of the learning rate whatever the gradient's, so rounding decides their sign.
CONFIG = """
_base_ = [{base!r}]
model = dict(
    data_preprocessor=dict(mean=[110.0] * 3, std=[60.0] * 3),
    backbone=dict(norm_eval=True),
)
train_dataloader = dict(
    sampler=dict(shuffle=False),
    dataset=dict(data_root={data!r}),
)
train_cfg = dict(max_epochs=1)
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='mmengine.SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
)
param_scheduler = None
default_hooks = dict(checkpoint=dict(interval=1))
"""


def test_two_processes_equal_one_with_twice_the_batch(run_tool, digit_scenes, tmp_path):
    base = ROOT / 'configs/classification/resnet18_metaacon_digits.py'
    config = tmp_path / 'classifier.py'
    config.write_text(CONFIG.format(base=str(base), data=str(digit_scenes / 'imagenet')))
    runs = {
        'one': ('train.py', config, 4),
        'two': ('dist_train.sh', config, 2, 2),
    }
    weights = {}
    for name, (script, *args, batch) in runs.items():
        folder = tmp_path / name
        run = run_tool(
            script,
            *args,
            '--work-dir',
            folder,
            '--cfg-options',
            f'train_dataloader.batch_size={batch}',
        )
        assert run.returncode == 0, run.stderr[-3000:]
        state = load_from_local(folder / 'epoch_1.pth')
        assert state['meta']['iter'] == 10
        weights[name] = state['state_dict']
        # One step is a hundred times larger than what is allowed to differ.
        momenta = [entry['momentum_buffer'] for entry in state['optimizer']['state'].values()]
        assert 0.01 * max(momentum.abs().max() for momentum in momenta) > 1e-3

    assert weights['one'].keys() == weights['two'].keys()
    for name, one in weights['one'].items():
        torch.testing.assert_close(weights['two'][name], one, rtol=0, atol=1e-5, msg=name)
