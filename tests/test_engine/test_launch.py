from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel

from acon_mm.engine.launch import prepare_launch
from acon_mm.errors import UserError

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason='with a GPU mmengine launches everything'
)


def test_one_process_is_left_as_it_is():
    cfg = Config({'find_unused_parameters': True})
    prepare_launch(cfg, 'none')
    assert cfg.launcher == 'none'
    assert 'model_wrapper_cfg' not in cfg
    assert not dist.is_initialized()


def test_processes_without_a_gpu_talk_over_gloo(one_process):
    cfg = Config({'env_cfg': {'dist_cfg': {'backend': 'nccl', 'timeout': 77}}})
    prepare_launch(cfg, 'pytorch')
    assert dist.get_backend() == 'gloo'
    group = dist.distributed_c10d._get_default_group()
    assert group._get_backend(torch.device('cpu')).options._timeout == timedelta(seconds=77)
    assert cfg.launcher == 'pytorch'
    assert cfg.model_wrapper_cfg == {
        'type': 'acon_mm.CPUDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': False,
    }


@pytest.mark.parametrize(
    ('given', 'carried'),
    [
        ({'find_unused_parameters': True}, {'find_unused_parameters': True}),
        ({'model_wrapper_cfg': {'static_graph': True}}, {'static_graph': True}),
        (
            {
                'model_wrapper_cfg': {
                    'type': 'MMDistributedDataParallel',
                    'broadcast_buffers': True,
                }
            },
            {'broadcast_buffers': True},
        ),
    ],
)
def test_the_wrapper_keeps_the_arguments_it_was_given(one_process, given, carried):
    cfg = Config(given)
    prepare_launch(cfg, 'pytorch')
    assert cfg.model_wrapper_cfg.type == 'acon_mm.CPUDistributedDataParallel'
    assert {**cfg.model_wrapper_cfg, **carried} == cfg.model_wrapper_cfg


def test_slurm_tasks_are_numbered_by_slurm(one_process, monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.delenv(name)
    for name, value in {'PROCID': '0', 'NTASKS': '1', 'LOCALID': '0'}.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    prepare_launch(Config(), 'slurm')
    assert (dist.get_rank(), dist.get_world_size()) == (0, 1)


def test_a_wrapper_that_needs_gpus_is_refused(one_process):
    cfg = Config({'model_wrapper_cfg': {'type': 'MMFullyShardedDataParallel'}})
    with pytest.raises(UserError, match=r'model_wrapper_cfg\.type=.MMFullySharded'):
        prepare_launch(cfg, 'pytorch')


def test_a_wrapper_may_be_given_as_its_class(one_process):
    cfg = Config({'model_wrapper_cfg': {'type': MMDistributedDataParallel, 'static_graph': True}})
    prepare_launch(cfg, 'pytorch')
    assert cfg.model_wrapper_cfg == {
        'type': 'acon_mm.CPUDistributedDataParallel',
        'static_graph': True,
    }


def test_a_launcher_that_did_not_launch_is_named(one_process, monkeypatch):
    monkeypatch.delenv('RANK')
    monkeypatch.delenv('MASTER_ADDR')
    with pytest.raises(UserError, match=r'pytorch needs .* RANK, MASTER_ADDR.*dist_train\.sh'):
        prepare_launch(Config(), 'pytorch')


def test_an_unknown_launcher_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="'ray' is unknown; use one of none, pytorch, slurm, mpi"):
        prepare_launch(Config(), 'ray')
