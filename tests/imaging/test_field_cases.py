"""Inputs as devices and people write them: each gets the finding of its twin, the same image in another form."""

from __future__ import annotations

import csv
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from pneumoscope import Detector
from tests.conftest import ROOT

CLOSE = 0.01
"""What the probabilities of an input and its twin may differ by."""

FIELD = Path(os.environ.get("PNEUMOSCOPE_FIELD", ROOT.parent / "shared" / "field"))
with (FIELD / "cases.csv").open(encoding="utf-8") if FIELD.is_dir() else nullcontext(()) as lines:
    CASES = list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.mark.parametrize("case", [case for case in CASES if case["twin"]], ids=lambda case: case["file"])
def test_an_input_gets_the_finding_of_its_twin(case: dict[str, str], detector: Detector) -> None:
    found, twin = detector.examine([FIELD / case["file"], FIELD / case["twin"]])
    assert found.error is None
    assert found.finding == twin.finding
    assert found.probability == pytest.approx(twin.probability, abs=CLOSE)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["expects"].startswith("rejected")], ids=lambda c: c["file"]
)
def test_an_input_is_rejected_or_warned_of_as_expected(case: dict[str, str], detector: Detector) -> None:
    (found,) = detector.examine([FIELD / case["file"]])
    if "lateral" in case["expects"]:
        assert "a lateral view" in str(found.error)
    else:
        assert found.error is not None or "pseudo_coloured" in found.warnings
