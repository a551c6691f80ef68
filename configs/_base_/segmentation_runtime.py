_base_ = './default_runtime.py'

default_scope = 'mmseg'
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=4000),
    visualization=dict(type='mmseg.SegVisualizationHook'),
)
# Every crop has the same size, and so has every image of Cityscapes.
env_cfg = dict(cudnn_benchmark=True)
visualizer = dict(
    type='mmseg.SegLocalVisualizer', vis_backends={{_base_.vis_backends}}, name='visualizer'
)
log_processor = dict(type='mmengine.LogProcessor', window_size=50, by_epoch=False)
