# What every task shares. The files detection_runtime.py and classification_runtime.py beside this
# one add the scope and the visualizer of their library.
default_hooks = dict(
    timer=dict(type='mmengine.IterTimerHook'),
    logger=dict(type='mmengine.LoggerHook', interval=50),
    param_scheduler=dict(type='mmengine.ParamSchedulerHook'),
    checkpoint=dict(type='acon_mm.AtomicCheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='mmengine.DistSamplerSeedHook'),
    # What docs/reliability.md is about; None switches one off.
    fit=dict(type='acon_mm.CheckpointFitHook'),
    health=dict(type='acon_mm.HealthHook'),
    preemption=dict(type='acon_mm.PreemptionHook'),
)

env_cfg = dict(
    # Detection changes the input size with every batch, and cuDNN would search anew each time.
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [
    dict(type='mmengine.LocalVisBackend'),
    dict(type='mmengine.TensorboardVisBackend'),
]

log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=None, deterministic=False)
