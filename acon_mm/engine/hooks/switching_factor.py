"""Log what the activations of a network learn while it trains."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from acon_mm.models.switching import record_factors, switching_activations
from acon_mm.registry import HOOKS

MAX_VALUES = 4096
"""How many switching factors of a call are kept, evenly spread: a pixel-wise one has millions."""

BINS = 30


@HOOKS.register_module()
class SwitchingFactorHook(Hook):
    """Log the means and histograms of β, p₁ and p₂ of each activation.

    The means are the scalars ``beta_mean/LAYER``, ``p1_mean/LAYER`` and ``p2_mean/LAYER`` of every
    visualizer backend. The histograms go to the backends that have a place for them: TensorBoard
    and wandb as histograms ``beta/LAYER``, ``p1/LAYER`` and ``p2/LAYER``; the local backend as a
    line of ``vis_data/switching_factors.json``, and MLflow as the artifact
    ``switching_factors/STEP.json``, both with the ``counts`` and ``edges`` of the bins.

    All are those that the step computes with. Meta-ACON is watched during the forward pass, and is
    then computed after its norm, not together with it: what it returns may differ in the last bit
    from that of a run without this hook. With ``compile=True`` in the config, torch compiles the
    watched activations anew.

    Values that are not finite are left out; :class:`.HealthHook` stops a training with such.

    Args:
        interval: The iterations between two looks.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 200) -> None:
        self.interval = interval
        self._watching = ExitStack()
        self._layers: dict = {}

    def before_train(self, runner: Runner) -> None:
        """Say so if there is nothing to log."""
        if not switching_activations(_bare(runner.model)):
            runner.logger.warning(
                'acon_mm.SwitchingFactorHook logs nothing: the model has no activation with a '
                'switching factor, which are acon_mm.AconA, AconB, AconC and MetaAcon'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Watch the forward pass of every ``interval``-th iteration."""
        if self.every_n_train_iters(runner, self.interval):
            watch = record_factors(_bare(runner.model), _some)
            self._layers = self._watching.enter_context(watch)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Log what was seen."""
        self._watching.close()
        layers, self._layers = self._layers, {}
        if not layers or not is_main_process():
            return
        values: dict[str, np.ndarray] = {}
        for name, layer in layers.items():
            if layer.calls:
                values[f'beta/{name}'] = np.concatenate([_numpy(b) for b in layer.calls])
                values[f'p1/{name}'], values[f'p2/{name}'] = _numpy(layer.p1), _numpy(layer.p2)
        values = {key: v[np.isfinite(v)] for key, v in values.items() if np.isfinite(v).any()}
        step = runner.iter + 1
        means = {key.replace('/', '_mean/', 1): float(v.mean()) for key, v in values.items()}
        runner.visualizer.add_scalars(means, step)
        for backend in runner.visualizer._vis_backends.values():
            _add_histograms(backend, values, step)

    def after_train(self, runner: Runner) -> None:
        """Leave the model alone again, also where a training ends within an iteration."""
        self._watching.close()


def _bare(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model


def _some(beta: Tensor) -> Tensor:
    flat = beta.flatten()
    return flat[:: -(-flat.numel() // MAX_VALUES)]


def _numpy(value: Tensor) -> np.ndarray:
    return value.flatten().cpu().numpy()


def _add_histograms(backend: Any, values: dict[str, np.ndarray], step: int) -> None:
    """Hand histograms to a backend, known by the class of mmengine that it is derived from."""
    kinds = [base.__name__ for base in type(backend).__mro__]
    if 'TensorboardVisBackend' in kinds:
        for name, value in values.items():
            backend.experiment.add_histogram(name, value, step, bins=BINS)
    elif 'WandbVisBackend' in kinds:
        wandb = backend.experiment
        histograms = {
            name: wandb.Histogram(np_histogram=np.histogram(value, BINS))
            for name, value in values.items()
        }
        wandb.log(histograms, commit=backend._commit)
    elif 'MLflowVisBackend' in kinds:
        backend.experiment.log_dict(_counted(values), f'switching_factors/{step}.json')
    elif 'LocalVisBackend' in kinds:
        path = Path(backend.experiment._save_dir, 'switching_factors.json')
        with path.open('a', encoding='utf-8') as file:
            file.write(json.dumps({'step': step, **_counted(values)}) + '\n')


def _counted(values: dict[str, np.ndarray]) -> dict[str, dict[str, list]]:
    counted = {}
    for name, value in values.items():
        counts, edges = np.histogram(value, BINS)
        counted[name] = {'counts': counts.tolist(), 'edges': edges.round(6).tolist()}
    return counted
