"""A type of acon_mm is found by its name, without ``custom_imports``."""

import importlib

import pytest
from mmengine.registry import Registry

from acon_mm import registry

REGISTRIES = [
    r for r in vars(registry).values() if isinstance(r, Registry) and r.scope == 'acon_mm'
]
LOCATIONS = sorted({location for r in REGISTRIES for location in r._locations})


@pytest.mark.parametrize('location', LOCATIONS)
def test_location_imports(location):
    # mmengine says nothing when a location cannot be imported.
    assert importlib.import_module(location).__name__ == location


@pytest.mark.parametrize('child', REGISTRIES, ids=lambda r: r.name)
def test_registry_is_a_child_of_the_root_and_is_filled_by_its_locations(child):
    assert child.parent.scope == 'mmengine'
    assert child._locations
    child.import_from_location()
    assert len(child) > 0
