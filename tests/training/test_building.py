"""`building`: the network of a recipe, and the precision it is trained in."""

from __future__ import annotations

import pytest

from pneumoscope.inference import runtimes
from pneumoscope.networks import backend
from pneumoscope.training import building
from pneumoscope.training.recipe import PRECISIONS, Recipe


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "auto"])
def test_a_precision_that_is_given_is_used(precision: str) -> None:
    assert building.precision(Recipe(precision=precision)) == precision


@pytest.mark.parametrize("units", [True, False])
def test_by_default_bfloat16_is_used_where_it_is_faster(units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: units)
    faster = units and backend.name() == "torch"
    assert building.precision(Recipe()) == ("mixed_bfloat16" if faster else "float32")
