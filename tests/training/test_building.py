"""`building`: the network of a recipe, and the precision it is trained in."""

from __future__ import annotations

import pytest

from pneumoscope.inference import runtimes
from pneumoscope.networks import backend, torch_layers
from pneumoscope.training import building
from pneumoscope.training.recipe import PRECISIONS, Recipe


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "auto"])
def test_a_precision_that_is_given_is_used(precision: str) -> None:
    assert building.precision(Recipe(precision=precision)) == precision


@pytest.mark.parametrize("units", [True, False])
@pytest.mark.parametrize("processor", [True, False])
def test_by_default_bfloat16_is_used_by_pytorch_on_processors_with_units_for_it(
    units: bool, processor: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: units)
    monkeypatch.setattr(torch_layers, "on_processor", lambda: processor)
    assert building.precision(Recipe()) == ("mixed_bfloat16" if units and processor else "float32")


def test_no_other_backend_than_pytorch_counts() -> None:
    assert backend.name() == "torch" or not torch_layers.on_processor()
