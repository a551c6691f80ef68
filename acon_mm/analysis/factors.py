"""The switching factors of trained models on pictures, as numbers."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.model import BaseModel

from acon_mm.apis import inference
from acon_mm.apis.inference import read_image
from acon_mm.errors import UserError
from acon_mm.models.switching import LayerFactors, record_factors

QUANTILES = (5, 25, 50, 75, 95)


@dataclass
class Recording:
    """What a model computed for some pictures.

    Attributes:
        title: How figures and tables name the model.
        pictures: The pictures by name, uint8 arrays of shape ``(H, W, 3)`` in the order BGR.
        layers: By the name of a picture, the activations by name.
    """

    title: str
    pictures: dict[str, np.ndarray]
    layers: dict[str, dict[str, LayerFactors]]

    def names(self) -> list[str]:
        """Return the names of the activations that were called, in the order of the network."""
        first = next(iter(self.layers.values()))
        return [name for name, layer in first.items() if layer.calls]

    def has_maps(self) -> bool:
        """Whether a layer has switching factors for each pixel."""
        first = next(iter(self.layers.values()))
        return any(layer.depends_on_place for layer in first.values())

    def beta(self, layer: str, picture: str) -> np.ndarray:
        """Return all switching factors of a layer for a picture, of shape ``(K,)``."""
        calls = self.layers[picture][layer].calls
        return np.concatenate([beta.flatten().cpu().numpy() for beta in calls])

    def steepness(self, layer: str, picture: str) -> np.ndarray:
        """Return ``|β (p₁ − p₂)|`` for each of them: 0 is a line, whichever of the two is 0."""
        found = self.layers[picture][layer]
        difference = (found.p1 - found.p2).cpu()
        values = [
            beta.cpu() * difference.view(1, -1, *[1] * (beta.dim() - 2)) for beta in found.calls
        ]
        return np.concatenate([value.abs().flatten().numpy() for value in values])

    def map_of(self, layer: str, picture: str) -> np.ndarray | None:
        """Return the mean over the channels at each place, ``(H, W)``; None without places."""
        (beta, *_) = self.layers[picture][layer].calls
        return beta[0].mean(0).cpu().numpy() if beta.dim() == 4 else None


def record_pictures(
    model: BaseModel,
    images: Sequence[str | os.PathLike],
    title: str,
    track: Callable[[Iterable], Iterable] = iter,
) -> Recording:
    """Record the switching factors of a model, one picture after the other.

    Args:
        model: A classifier, detector or segmentor of :func:`acon_mm.apis.get_model`.
        images: Paths of pictures, at least one.
        title: The name of the model in figures and tables.
        track: Shows the progress over the pictures.

    Raises:
        UserError: If a picture cannot be read, or no layer has a switching factor.
    """
    recording = Recording(title, {}, {})
    for image in track(images):
        name = _free_name(Path(image), recording.pictures)
        recording.pictures[name] = read_image(image)
        with record_factors(model) as layers:
            inference(model, recording.pictures[name])
        recording.layers[name] = layers
    _require_layers(recording.names(), repr(title))
    return recording


def layer_of(recording: Recording, name: str | None) -> str:
    """Return the layer that a user named by its whole name or its end; by default the last one.

    Raises:
        UserError: If there is no such layer, or several.
    """
    names = recording.names()
    return names[-1] if name is None else _find(names, name, repr(recording.title))


def _find(names: Sequence[str], name: str, owner: str) -> str:
    found = [n for n in names if n == name] or [n for n in names if n.endswith(f'.{name}')]
    if len(found) != 1:
        raise UserError(
            f'layer {name!r} must name one of the layers of {owner}: {", ".join(names)}'
        )
    return found[0]


def _require_layers(names: Sequence[str], owner: str) -> None:
    if not names:
        raise UserError(
            f'{owner} has no switching factors; give a model with acon_mm.AconA, acon_mm.AconB, '
            'acon_mm.AconC or acon_mm.MetaAcon'
        )


def record_layers(
    model: BaseModel, names: Sequence[str] | None, image: str | os.PathLike | None = None
) -> dict[str, LayerFactors]:
    """Record some layers of a model, for a picture if there is one.

    Args:
        model: A classifier, detector or segmentor of :func:`acon_mm.apis.get_model`.
        names: The layers, by their names or the ends of their names. Defaults to the first, the
            middle and the last one.
        image: The path of a picture, which the factors of Meta-ACON need.

    Raises:
        UserError: If there is no such layer.
    """
    with record_factors(model) as layers:
        if image is not None:
            inference(model, image)
    called = [name for name, layer in layers.items() if layer.calls or image is None]
    _require_layers(called, 'the model')
    if names is None:
        chosen = list(dict.fromkeys(called[i] for i in (0, len(called) // 2, -1)))
    else:
        chosen = [_find(called, name, 'the model') for name in names]
    return {name: layers[name] for name in chosen}


def table_rows(recordings: Sequence[Recording]) -> Iterator[dict[str, Any]]:
    """Yield a row for each model, picture and layer: quantiles of β and mean slopes."""
    for recording in recordings:
        for picture, layers in recording.layers.items():
            for layer in recording.names():
                beta = recording.beta(layer, picture)
                found = layers[layer]
                quantiles = np.percentile(beta, QUANTILES)
                yield {
                    'model': recording.title,
                    'picture': picture,
                    'layer': layer,
                    'values': beta.size,
                    'beta_mean': beta.mean(),
                    'beta_sd': beta.std(),
                    'beta_min': beta.min(),
                    **{f'beta_q{q:02d}': v for q, v in zip(QUANTILES, quantiles, strict=True)},
                    'beta_max': beta.max(),
                    'steepness_median': np.median(recording.steepness(layer, picture)),
                    'p1_mean': found.p1.mean().item(),
                    'p2_mean': found.p2.mean().item(),
                }


def write_table(recordings: Sequence[Recording], path: str | os.PathLike) -> None:
    """Write :func:`table_rows` as CSV with a header."""
    rows = list(table_rows(recordings))
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f'{v:.6g}' if k not in _TEXT else v for k, v in row.items()})


_TEXT = ('model', 'picture', 'layer')


def _free_name(path: Path, taken: dict[str, np.ndarray]) -> str:
    """Name a picture by its file; two of one name keep their folders."""
    return path.stem if path.stem not in taken else str(path)
