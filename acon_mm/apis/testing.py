"""Test a checkpoint of mmdet, mmpretrain or mmsegmentation by its config."""

import os
from pathlib import Path

from mmengine.config import Config

from acon_mm.engine.data_check import check_data
from acon_mm.engine.launch import prepare_launch
from acon_mm.errors import UserError
from acon_mm.registry import type_name

from .config import build_runner, load_checked_config, require_fit, require_keys
from .tta import use_tta
from .visualization import draw_predictions

PICKLE_SUFFIXES = ('.pkl', '.pickle')


def test(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike,
    *,
    work_dir: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    show_dir: str | os.PathLike | None = None,
    show: bool = False,
    wait_time: float = 2.0,
    tta: bool = False,
    allow_partial: bool = False,
    cfg_options: dict | None = None,
    launcher: str = 'none',
) -> dict[str, float]:
    """Run a checkpoint over the test data and evaluate its predictions.

    Args:
        config: Path of a config file, or a config.
        checkpoint: Path or URL of the checkpoint.
        work_dir: Where the log goes. Defaults to ``./work_dirs/`` and the config's name.
        out: Where to write the predictions: a ``.pkl`` file, or for a segmentor a folder, which
            gets the class of each pixel as a PNG. A ``.pkl`` of a segmentor has the scores of all
            classes for each pixel.
        show_dir: A folder to write pictures with the predictions to.
        show: Whether to show the pictures in a window.
        wait_time: Seconds that each picture is shown.
        tta: Whether to merge the predictions for several views of an image, by ``tta_model`` and
            ``tta_pipeline`` of the config.
        allow_partial: Whether the checkpoint may fit the model only in part; a warning lists the
            rest.
        cfg_options: Values to change in the config, by dotted key.
        launcher: What started the processes: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Returns:
        The metrics by name.

    Raises:
        UserError: If the config, an argument, the checkpoint or the data does not allow the run.
    """
    cfg = load_checked_config(config, cfg_options, work_dir)
    require_keys(cfg, 'model', 'test_dataloader', 'test_evaluator')
    require_fit(cfg, allow_partial)
    cfg.load_from, cfg.resume = _existing(checkpoint), False
    if out is not None and cfg.get('default_scope') == 'mmseg' and not Path(out).suffix:
        _write_label_maps(cfg, out)
    elif out is not None:
        _dump_predictions(cfg, _writable(out))
    if show or show_dir is not None:
        draw_predictions(cfg, show_dir, show, wait_time)
    if tta:
        use_tta(cfg)
    check_data(cfg, ('test',))
    prepare_launch(cfg, launcher)
    return build_runner(cfg).test()


def _existing(checkpoint: str | os.PathLike) -> str:
    path = os.fspath(checkpoint)
    if '://' not in path and not Path(path).expanduser().is_file():
        raise UserError(f'checkpoint {path!r} does not exist (looked in {Path.cwd()})')
    return path


def _writable(out: str | os.PathLike) -> str:
    path = Path(out).expanduser()
    if path.suffix not in PICKLE_SUFFIXES:
        raise UserError(
            f'out={str(out)!r} must end in {" or ".join(PICKLE_SUFFIXES)}, or for a segmentor be '
            'a folder, which has no suffix'
        )
    _make_folder(out, path.parent)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f'out={str(out)!r} is a folder or is in a folder that is not writable')
    return str(path)


def _make_folder(out: str | os.PathLike, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'out={str(out)!r}: its folder cannot be made: {error}') from error


def _metrics(cfg: Config) -> list[dict]:
    metrics = cfg.test_evaluator
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]


def _dump_predictions(cfg: Config, path: str) -> None:
    # mmdet's own packs instance masks, which are large.
    kind = 'mmdet.DumpDetResults' if cfg.get('default_scope') == 'mmdet' else 'DumpResults'
    cfg.test_evaluator = [*_metrics(cfg), {'type': kind, 'out_file_path': path}]


def _write_label_maps(cfg: Config, out: str | os.PathLike) -> None:
    writers = [m for m in _metrics(cfg) if type_name(m.get('type')) == 'IoUMetric']
    if not writers:
        raise UserError(
            f'out={str(out)!r} is a folder, which mmseg.IoUMetric writes to, and test_evaluator '
            'has none; give a .pkl file'
        )
    path = Path(out).expanduser()
    _make_folder(out, path)
    writers[0]['output_dir'] = str(path)
