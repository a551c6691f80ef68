"""Starting one of several processes, on machines with and without GPUs.

With GPUs mmengine does this. Without, its ``init_dist`` needs CUDA, so the process group is made
here, on gloo, before the ``Runner`` is built; the ``Runner`` then uses it.
"""

import gc
import os
import signal
import subprocess
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device

from acon_mm.errors import UserError
from acon_mm.registry import type_name

# Where each launcher says: the process' number, how many there are, its number on this machine.
_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}
# How often each launcher has started the job before.
_RESTART_COUNTS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')
_STARTERS = {
    'pytorch': 'tools/dist_train.sh or tools/dist_test.sh (torchrun)',
    'slurm': 'tools/slurm_train.sh or tools/slurm_test.sh (srun)',
    'mpi': 'mpirun',
}
LAUNCHERS = ('none', *_VARIABLES)
_DEFAULT_WRAPPERS = ('DistributedDataParallel', 'MMDistributedDataParallel')


def prepare_launch(cfg: Config, launcher: str) -> None:
    """Make ``cfg`` run under ``launcher``; without a GPU, also join the process group.

    Args:
        cfg: The config of the run. ``cfg.launcher`` is set and, without a GPU,
            ``cfg.model_wrapper_cfg`` names :class:`.CPUDistributedDataParallel` with the
            arguments it had before (``find_unused_parameters`` included).
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        UserError: If the launcher is unknown, did not set its environment variables, or the
            config asks for a model wrapper that needs GPUs.
    """
    if launcher not in LAUNCHERS:
        raise UserError(f'launcher={launcher!r} is unknown; use one of {", ".join(LAUNCHERS)}')
    cfg.launcher = launcher
    if launcher == 'none':
        return
    _check_environment(launcher)
    is_cpu = get_device() == 'cpu'
    if is_cpu:
        cfg.model_wrapper_cfg = _cpu_wrapper(cfg)
    # On GPUs mmengine does it, but by what the processes before a restart have left.
    if (is_cpu or (launcher == 'pytorch' and is_restarted())) and not dist.is_initialized():
        dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg', {})
        backend = 'gloo' if is_cpu else dist_cfg.get('backend', 'nccl')
        _init_group(backend, launcher, dist_cfg.get('timeout'))


def is_first_process() -> bool:
    """Return whether this is the first process of its machine; the process group may not exist."""
    return os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) == '0'


def is_restarted() -> bool:
    """Return whether torchrun or Slurm started this job again after it had ended early."""
    counts = (os.environ.get(name, '0') for name in _RESTART_COUNTS)
    return any(count not in ('', '0') for count in counts)


def end_restarts() -> None:
    """Keep torchrun from starting the processes again, which would end as this one does."""
    parent = os.getppid()  # that of a process whose torchrun is gone has the number 1
    if os.environ.get('TORCHELASTIC_MAX_RESTARTS', '0') != '0' and parent != 1:
        os.kill(parent, signal.SIGTERM)


def finish_launch() -> None:
    """Leave the process group, if there is one, and end its threads.

    A thread of gloo drops the tensors of a collective a little after the collective has returned,
    and needs Python for that. If Python ends first, the whole process aborts. The threads end with
    the last reference to the group, and a model in ``DistributedDataParallel`` has one: call this
    when the ``Runner`` is not needed any more.
    """
    if not dist.is_initialized():
        return
    gc.collect()  # the Runner and the model refer to each other
    dist.destroy_process_group()


def _check_environment(launcher: str) -> None:
    needed = _VARIABLES[launcher] + (('MASTER_ADDR',) if launcher != 'slurm' else ())
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise UserError(
            f'--launcher {launcher} needs the environment variables {", ".join(missing)}, which '
            f'are not set: start with {_STARTERS[launcher]}, or run one process without '
            '--launcher'
        )


def _cpu_wrapper(cfg: Config) -> dict:
    wrapper = dict(cfg.get('model_wrapper_cfg') or {})
    kind = type_name(wrapper.get('type', _DEFAULT_WRAPPERS[-1]))
    if kind not in (*_DEFAULT_WRAPPERS, 'CPUDistributedDataParallel'):
        raise UserError(
            f'model_wrapper_cfg.type={kind!r} needs GPUs and this machine has none; '
            f'use {_DEFAULT_WRAPPERS[-1]!r}, or run one process without --launcher'
        )
    # The two values with which mmengine wraps a model whose config has no `model_wrapper_cfg`.
    defaults = {
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    if not wrapper:
        wrapper = defaults
    return {**wrapper, 'type': 'acon_mm.CPUDistributedDataParallel'}


def _init_group(backend: str, launcher: str, timeout: float | None) -> None:
    rank, world_size, local_rank = (int(os.environ[name]) for name in _VARIABLES[launcher])
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        os.environ['MASTER_ADDR'] = _first_slurm_host()
    os.environ.setdefault('MASTER_PORT', '29500')
    # mmengine and datasets read these, whichever launcher started the process.
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(local_rank))
    # torch 2.1 takes no None.
    wait: dict[str, Any] = {} if timeout is None else {'timeout': timedelta(seconds=timeout)}
    # torchrun keeps one store through all restarts, with the addresses of processes that are dead.
    store, *_ = next(dist.rendezvous('env://', rank, world_size, **wait))
    store = dist.PrefixStore(f'restart_{os.environ.get(_RESTART_COUNTS[0], "0")}', store)
    if backend == 'nccl':
        torch.cuda.set_device(local_rank)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, **wait)


def _first_slurm_host() -> str:
    nodes = os.environ.get('SLURM_NODELIST', '')
    shown = subprocess.run(
        ['scontrol', 'show', 'hostname', nodes], capture_output=True, text=True, check=True
    )
    return shown.stdout.split()[0]
