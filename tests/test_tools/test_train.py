import argparse
import importlib.util
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict

from acon_mm import apis
from acon_mm.apis import cli, training
from acon_mm.checkpoints import load_from_local
from acon_mm.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def built(monkeypatch):
    """Collect the configs that runners would be built from."""
    configs = []

    class Runner:
        iter = 1

        def train(self):
            pass

    def build(cfg):
        configs.append(cfg)
        return Runner()

    monkeypatch.setattr(training, 'build_runner', build)
    return configs


def refusal(*args, **kwargs):
    with pytest.raises(UserError) as error:
        apis.train(*args, **kwargs)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_the_work_dir_is_named_after_the_config(toy_config, built):
    apis.train(toy_config)
    apis.train(toy_config, cfg_options={'work_dir': 'from/options'})
    apis.train(toy_config, cfg_options={'work_dir': 'from/options'}, work_dir='given')
    assert [cfg.work_dir for cfg in built] == ['work_dirs/toy', 'from/options', 'given']


def test_a_config_object_is_left_as_it_is(toy_config, built):
    cfg = Config.fromfile(toy_config)
    before = cfg.pretty_text
    apis.train(cfg, cfg_options={'train_cfg.max_epochs': 7})
    assert cfg.pretty_text == before
    assert built[0].train_cfg.max_epochs == 7


def test_resume_takes_the_latest_or_the_given_checkpoint(toy_config, tmp_path, built):
    for name in ('a.pth', 'b.pth', 'start.pth'):
        (tmp_path / name).write_text('whole')
    start = {'load_from': 'start.pth'}
    apis.train(toy_config, work_dir=tmp_path, resume=True, cfg_options=start)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'b.pth'))
    apis.train(toy_config, work_dir=tmp_path, resume='auto', cfg_options=start)
    apis.train(toy_config, work_dir=tmp_path, resume='a.pth', cfg_options=start)
    assert [(cfg.get('resume', False), cfg.load_from) for cfg in built] == [
        (False, 'start.pth'),  # nothing to resume: the start that the config names
        (True, str(tmp_path / 'b.pth')),
        (True, 'a.pth'),
    ]


def test_a_checkpoint_to_resume_that_is_gone_is_named(toy_config, tmp_path):
    assert "resume names 'gone.pth'" in refusal(toy_config, resume='gone.pth')
    (tmp_path / 'last_checkpoint').write_text('/gone/epoch_3.pth')
    message = refusal(toy_config, work_dir=tmp_path, resume=True)
    assert 'last_checkpoint' in message
    assert '/gone/epoch_3.pth' in message


def test_amp_changes_the_optimizer_wrapper_where_there_is_a_device(toy_config, built, monkeypatch):
    monkeypatch.setattr(training, 'get_device', lambda: 'cuda')
    apis.train(toy_config, amp=True)
    apis.train(toy_config, amp=True, cfg_options={'optim_wrapper.loss_scale': 512.0})
    assert [cfg.optim_wrapper.type for cfg in built] == ['mmengine.AmpOptimWrapper'] * 2
    assert [cfg.optim_wrapper.loss_scale for cfg in built] == ['dynamic', 512.0]
    message = refusal(toy_config, amp=True, cfg_options={'optim_wrapper.type': 'Mine'})
    assert "optim_wrapper.type is 'Mine'" in message


def test_amp_without_a_device_is_refused(toy_config, monkeypatch):
    monkeypatch.setattr(training, 'get_device', lambda: 'cpu')
    assert 'without --amp' in refusal(toy_config, amp=True)


def test_scaling_the_learning_rate_needs_the_batch_size_it_is_for(toy_config, built):
    assert 'auto_scale_lr.base_batch_size is None' in refusal(toy_config, auto_scale_lr=True)
    apis.train(toy_config, auto_scale_lr=True, cfg_options={'auto_scale_lr.base_batch_size': 16})
    assert built[0].auto_scale_lr == {'base_batch_size': 16, 'enable': True}


def test_an_unusable_config_gets_a_sentence(toy_config, tmp_path):
    assert "config 'gone.py' does not exist" in refusal('gone.py')
    broken = {
        'syntax.py': 'model = (',
        'base.py': "_base_ = './gone.py'",
        'package.py': "_base_ = 'nowhere::gone.py'",
        'text.txt': 'model',
    }
    for name, text in broken.items():
        (tmp_path / name).write_text(text)
        assert f"config '{name}' cannot be read" in refusal(name)
    (tmp_path / 'empty.py').write_text('a = 1')
    assert 'has no model, train_dataloader, train_cfg' in refusal('empty.py')


def test_an_error_inside_a_config_is_told_with_its_line_and_stays_the_cause(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('base.py').write_text("sizes = dict(small=1)\n\nwidth = sizes['big']\n")
    Path('inherits.py').write_text("_base_ = './base.py'\n")
    with pytest.raises(UserError) as error:
        apis.train('inherits.py')
    assert f"KeyError: 'big' (line 3 of '{tmp_path / 'base.py'}')" in str(error.value)
    assert type(error.value.__cause__) is KeyError


def test_the_traceback_of_a_user_error_is_shown_on_demand(run_here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('wrong.py').write_text('width = 1 / 0\n')
    runs = []
    for value in ('0', '1'):
        monkeypatch.setenv('ACON_MM_TRACEBACK', value)
        runs.append(run_here('train.py', 'wrong.py'))
    for run in runs:
        assert run.returncode == 1
        assert run.stderr.splitlines()[-1].startswith("error: config 'wrong.py' cannot be read")
    assert 'Traceback' not in runs[0].stderr
    assert 'wrong.py", line 1' in runs[1].stderr


def test_options_that_do_not_fit_are_shown(toy_config):
    message = refusal(toy_config, cfg_options={'train_cfg.max_epochs.deeper': 1})
    assert 'train_cfg.max_epochs.deeper' in message


def test_missing_data_is_said_before_a_model_is_built(toy_config, built):
    options = {'train_dataloader.dataset.ann_file': 'gone.json'}
    assert 'train_dataloader.dataset.ann_file points to' in refusal(
        toy_config, cfg_options=options
    )
    assert built == []


def test_classifiers_get_the_loader_of_their_library(toy_config, built):
    options = {'default_scope': 'mmpretrain', 'val_dataloader.collate_fn': {'type': 'other'}}
    options['test_dataloader.num_workers'] = 2
    apis.train(toy_config, cfg_options=options)
    loaders = [built[0][f'{split}_dataloader'] for split in ('train', 'val', 'test')]
    collated = [loader.collate_fn.type for loader in loaders]
    assert collated == ['default_collate', 'other', 'default_collate']
    assert [loader.persistent_workers for loader in loaders] == [False, False, True]


def test_mixed_precision_replaces_the_wrapper_by_whatever_name(toy_config, built, monkeypatch):
    monkeypatch.setattr(training, 'get_device', lambda: 'cuda')
    cfg = Config.fromfile(toy_config)
    for kind in (OptimWrapper, 'mmengine.OptimWrapper'):
        cfg.optim_wrapper['type'] = kind
        apis.train(cfg, amp=True)
        assert built[-1].optim_wrapper.type == 'mmengine.AmpOptimWrapper'
    cfg.optim_wrapper['type'] = OptimWrapperDict
    assert "optim_wrapper.type is 'OptimWrapperDict'" in refusal(cfg, amp=True)
    cfg.optim_wrapper = None
    assert 'optim_wrapper, which the config does not have' in refusal(cfg, amp=True)


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('', {'resume': None, 'amp': False, 'auto_scale_lr': False, 'launcher': 'none'}),
        ('--resume', {'resume': 'auto'}),
        ('--resume a.pth --amp --auto-scale-lr', {'resume': 'a.pth', 'amp': True}),
        ('--work-dir w --launcher slurm', {'work_dir': 'w', 'launcher': 'slurm'}),
        ('--local_rank 3', {'local_rank': 3}),
        ('--local-rank=3', {'local_rank': 3}),
        ('--cfg-options a.b=1 c=[d,2]', {'cfg_options': {'a.b': 1, 'c': ['d', 2]}}),
    ],
)
def test_the_flags_are_those_of_mmdet(line, expected, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    spec = importlib.util.spec_from_file_location('tools_train', ROOT / 'tools/train.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    parsed = vars(tool.build_parser().parse_args(['config.py', *line.split()]))
    parsed['cfg_options'] = cli.read_options(parsed['cfg_options'])
    assert {**parsed, **expected} == parsed


def test_a_user_error_is_one_line(run_tool, toy_config):
    run = run_tool('train.py', 'gone.py')
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("error: config 'gone.py' does not exist")
    assert 'Traceback' not in run.stderr


def test_a_bug_keeps_its_traceback():
    def buggy(config):
        raise KeyError(config)

    with pytest.raises(KeyError):
        cli.run(buggy, argparse.Namespace(config='a.py', local_rank=None))


def test_an_option_without_a_value_is_named():
    with pytest.raises(UserError, match="--cfg-options has 'no_value'; give KEY=VALUE"):
        cli.read_options(['a=1', 'no_value'])


def test_processes_say_a_user_error_once(run_tool, toy_config):
    run = run_tool('dist_train.sh', toy_config, 2, '--resume', 'gone.pth')
    assert run.returncode != 0
    assert run.stderr.count("error: resume names 'gone.pth'") == 1


LISTS_ITS_THREADS = """
import atexit, contextlib, os, pathlib, time

def names():
    for task in pathlib.Path('/proc/self/task').iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield (task / 'comm').read_text()

@atexit.register
def write():
    # The system may list a thread for a moment after it was joined.
    for _ in range(100):
        found = ''.join(names())
        if 'gloo' not in found:
            break
        time.sleep(0.05)
    pathlib.Path(f'threads_{os.environ["RANK"]}').write_text(found)
"""
IMPORT = "custom_imports['imports'].append('lists_its_threads')\n"


def test_a_run_is_trained_resumed_by_two_processes_and_tested(
    run_here, run_tool, toy_config, tmp_path, monkeypatch
):
    first = run_here('train.py', toy_config)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / 'work_dirs/toy'
    assert load_from_local(folder / 'epoch_1.pth')['meta']['iter'] == 4

    (tmp_path / 'lists_its_threads.py').write_text(LISTS_ITS_THREADS)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    toy_config.write_text(toy_config.read_text() + IMPORT)
    more = ['--resume', '--cfg-options', 'train_cfg.max_epochs=3', 'find_unused_parameters=True']
    second = run_tool('dist_train.sh', toy_config, 2, *more)
    assert second.returncode == 0, second.stderr
    printed = second.stdout + second.stderr
    assert 'resumed epoch: 1, iter: 4' in printed
    assert '1 SyncBatchNorm layers are replaced by batch norm' in printed
    assert load_from_local(folder / 'epoch_3.pth')['meta']['iter'] == 8
    if Path('/proc/self/task').exists() and not torch.cuda.is_available():
        for rank in range(2):  # no thread of the process group was left when Python ended
            names = (tmp_path / f'threads_{rank}').read_text()
            assert names  # the main thread, which some releases of torch rename
            assert 'gloo' not in names

    toy_config.write_text(toy_config.read_text().replace(IMPORT, ''))
    third = run_here('test.py', toy_config, folder / 'epoch_3.pth', '--out', 'new/p.pkl')
    assert third.returncode == 0, third.stderr
    assert 'seen: 8' in third.stdout + third.stderr
    assert len(pickle.loads((tmp_path / 'new/p.pkl').read_bytes())) == 8


@pytest.mark.parametrize('key', ['max_epochs', 'max_iters'])
@pytest.mark.parametrize('length', [0, -1])
def test_a_run_that_would_train_nothing_is_refused(toy_config, key, length):
    message = refusal(toy_config, cfg_options={f'train_cfg.{key}': length})
    assert f'train_cfg.{key} is {length}; it has to be an integer of 1 or more' in message


def test_a_data_set_smaller_than_a_batch_is_no_training(toy_config):
    options = {'train_dataloader.batch_size': 9, 'train_dataloader.drop_last': True}
    assert 'nothing was trained' in refusal(toy_config, cfg_options=options)


def test_a_checkpoint_may_fit_in_part_where_that_is_asked_for(toy_config, tmp_path):
    torch.save({'state_dict': {'line.bias': torch.ones(1)}}, tmp_path / 'part.pth')
    for api, arguments in (
        (apis.train, {'cfg_options': {'load_from': 'part.pth'}}),
        (apis.test, {'checkpoint': 'part.pth'}),
    ):
        with pytest.raises(
            UserError, match=r'missing: line\.weight, norm\.weight, norm\.bias and'
        ):
            api(toy_config, **arguments)
        api(toy_config, allow_partial=True, **arguments)


def test_a_model_without_a_backbone_is_not_compiled(toy_config):
    message = refusal(toy_config, cfg_options={'compile': True})
    assert 'compile=True compiles model.backbone and model.neck' in message
    assert 'ToyModel has neither' in message


def test_a_scaled_learning_rate_counts_accumulated_iterations(toy_config):
    options = {'optim_wrapper.accumulative_counts': 4, 'auto_scale_lr.base_batch_size': 2}
    runner = apis.train(toy_config, auto_scale_lr=True, cfg_options=options)
    # 4 iterations of 2 samples are 4 times the batch that the rate is meant for.
    assert runner.optim_wrapper.get_lr()['lr'] == [pytest.approx(4e-3)]
