"""What plan_run.py says a step exchanges is what two processes exchange."""

import importlib.util
import json
import sys

import pytest
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from acon_mm import config_path

CONFIG = """
_base_ = [{base!r}]
custom_imports = dict(imports=['collective_log'])
custom_hooks = [dict(type='mmengine.CollectiveLog')]
train_dataloader = dict(batch_size=2, dataset=dict(data_root={data!r}))
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
model = dict(backbone=dict(init_cfg=None), {model})
default_hooks = dict(checkpoint=None)
train_cfg = dict({length})
{more}
"""
RETINANET = dict(
    base='detection/retinanet_r18_metaacon_digits.py', model='', length='max_epochs=1', more=''
)
# Cross entropy with class weights refuses the label of padding, so images are not padded.
PSPNET = dict(
    base='segmentation/pspnet_r18_metaacon_digits.py',
    model='data_preprocessor=dict(size=(96, 96))',
    length='max_iters=4',
    more='',
)
# What mmengine's defaults switch off: buffers are sent and unused parameters looked for.
PSPNET_WITH_BUFFERS = PSPNET | dict(
    more="model_wrapper_cfg = dict(type='MMDistributedDataParallel', find_unused_parameters=True)"
)


@pytest.fixture
def plan_run(repo_root, monkeypatch, capsys):
    """Run the script in this process and return what it prints."""
    monkeypatch.syspath_prepend(str(repo_root / 'tests/test_tools/toy_project'))
    path = repo_root / 'tools/analysis_tools/plan_run.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        script.main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def exchanged(run_tool, plan_run, digit_scenes, tmp_path):
    """Train in two processes; return the config, the plan and what each process exchanged."""

    def run(values):
        path = tmp_path / 'config.py'
        base = str(config_path(values['base']))
        path.write_text(CONFIG.format(**values | {'base': base, 'data': str(digit_scenes)}))
        folder = tmp_path / 'run'
        process = run_tool(
            'dist_train.sh', path, 2, '--work-dir', folder, TORCH_FR_BUFFER_SIZE='10000'
        )
        assert process.returncode == 0, process.stderr[-3000:]
        logs = [json.loads((folder / f'collectives_{rank}.json').read_text()) for rank in (0, 1)]
        counts = json.loads(plan_run(path, '--json'))['counts']
        return Config.fromfile(path), counts, logs

    return run


def on_cpu(counts):
    """Return the planned exchanges; synchronised norms are plain batch norms on the CPU."""
    kept = [e for e in counts['exchanges'] if not e['purpose'].startswith('norms')]
    return [[e['operation'], e['nbytes']] for e in kept]


@pytest.mark.parametrize('values', [RETINANET, PSPNET], ids=['retinanet', 'pspnet'])
def test_every_exchange_of_two_processes_is_planned_or_explained(exchanged, values):
    config, counts, logs = exchanged(values)
    gradients = on_cpu(counts)
    assert len(gradients) > 1
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = revert_sync_batchnorm(MODELS.build(config.model))
    trained = [p for p in model.parameters() if p.requires_grad]
    before = [
        ['broadcast', 8],  # the Runner: the time that names the log folder
        ['all_gather', 8],  # DDP: do all have the same number of parameters,
        ['broadcast', sum(2 * 8 * p.dim() for p in trained)],  # shapes and strides,
        ['broadcast', sum(p.nbytes for p in model.parameters())],  # and values
        # The Runner after init_weights: each parameter and buffer.
        *(['broadcast', value.nbytes] for value in model.state_dict().values()),
    ]
    # DDP has a single bucket until it knows the order in which gradients are ready. The first
    # process then tells the others that order, how many they are, and the sizes of the buckets.
    first = [['all_reduce', counts['gradients']]]
    order = [['broadcast', 4 * (len(trained) + 1)], ['broadcast', 4 * len(gradients)]]
    for log in logs:
        start, one, two, *steps = log['steps']
        assert start == before
        assert one == first
        assert two == order + gradients
        assert len(steps) > 1
        assert all(step == gradients for step in steps)
        assert log['after'] == []


@pytest.mark.slow
def test_buffers_and_unused_parameters_are_planned_too(exchanged):
    _, counts, logs = exchanged(PSPNET_WITH_BUFFERS)
    assert {e['purpose'] for e in counts['exchanges']} >= {'buffers', 'used parameters'}
    for log in logs:
        assert all(sorted(step) == sorted(on_cpu(counts)) for step in log['steps'][1:])


def test_the_table_names_memory_exchanges_assumptions_and_each_number_of_gpus(plan_run):
    config = config_path('segmentation/pspnet_r18_metaacon_digits.py')
    arguments = ('--shape', 64, 64, '--gpus', 8, 512, '--tflops', 7.5)
    lines = plan_run(config, *arguments).splitlines()
    assert lines[0].startswith('One step of one GPU: 8 images of 3×64×64')
    firsts = [line.split('  ')[0] for line in lines]
    for name in ('gradients', 'saved for the backward pass', 'norms in Meta-ACON, forward'):
        assert name in firsts
    assert any(line.split()[:2] == ['--tflops', '7.5'] for line in lines)
    assert {'8', '512'} <= set(firsts)


def test_a_number_of_gpus_that_is_none_is_refused(plan_run, capsys):
    with pytest.raises(SystemExit):
        plan_run('config.py', '--gpus', 0)
    assert "argument --gpus: invalid positive int value: '0'" in capsys.readouterr().err
