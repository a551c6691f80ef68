"""The small embedded dataset: scenes of handwritten digits on photographs, no download."""

from acon_mm.datasets.digit_build import BuildOptions, build_digit_scenes
from acon_mm.datasets.digit_scenes import compose_scene
from acon_mm.datasets.digit_sources import load_digit_sources, split_samples

__all__ = [
    'BuildOptions',
    'build_digit_scenes',
    'compose_scene',
    'load_digit_sources',
    'split_samples',
]
