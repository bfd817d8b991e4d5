"""Findings as FHIR R4: valid to a library of that release, and without anything that tells whose image it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("fhirclient", reason="there is no fhirclient to validate with")

from fhirclient.models.bundle import Bundle
from fhirclient.models.diagnosticreport import DiagnosticReport
from fhirclient.models.operationoutcome import OperationOutcome

from pneumoscope.inference import model_file
from pneumoscope.inference.model_file import Card
from pneumoscope.reporting import fhir

SEEN = {
    "path": "MARKER-NAME.dcm",
    "probability": 0.93,
    "finding": "PNEUMONIA",
    "uncertain": True,
    "threshold": 0.38,
    "warnings": ["low_resolution"],
    "error": None,
}
NOT_SEEN = SEEN | {"probability": 0.02, "finding": "NORMAL", "uncertain": False, "warnings": []}
FAILED = {
    "path": "MARKER-NAME.dcm",
    "error": {"kind": "unreadable", "message": "Expected a whole file, got a part."},
}


@pytest.fixture(scope="module")
def card() -> Card:
    return model_file.read(model_file.default())[1]


def test_a_finding_is_a_valid_report_with_its_observations(card: Card) -> None:
    made = fhir.resource([SEEN], card)
    report = DiagnosticReport(made)  # raises where it is not valid
    assert report.as_json() == json.loads(json.dumps(made))
    assert report.status == "preliminary"
    assert report.conclusion.startswith("Pneumonia suspected, uncertain. Not a medical device")
    contained: dict[str, Any] = {one.id: one for one in report.contained}
    assert [reference.reference for reference in report.result] == ["#presence", "#probability"]
    assert contained["presence"].valueCodeableConcept.coding[0].display == "Present"
    assert contained["presence"].interpretation[0].coding[0].code == "IND"
    assert "low_resolution" in contained["presence"].note[0].text
    assert contained["probability"].valueQuantity.value == 0.93
    assert contained["probability"].referenceRange[0].high.value == 0.38
    assert contained["probability"].note[0].text == card.calibration.assumed


def test_no_pneumonia_seen_never_says_healthy(card: Card) -> None:
    made = fhir.resource([NOT_SEEN], card)
    assert DiagnosticReport(made).contained[1].valueCodeableConcept.coding[0].display == "Absent"
    assert made["conclusion"].startswith("No pneumonia seen.")
    assert "conclusionCode" not in made
    assert "ormal" not in json.dumps(made)


def test_several_images_make_a_bundle_in_their_order_and_a_failure_is_an_outcome(card: Card) -> None:
    made = fhir.resource([SEEN, FAILED, NOT_SEEN], card)
    kinds = [entry.resource.resource_type for entry in Bundle(made).entry]
    assert kinds == ["DiagnosticReport", "OperationOutcome", "DiagnosticReport"]
    assert OperationOutcome(fhir.resource([FAILED], card)).issue[0].details.text == "unreadable"


def test_nothing_tells_whose_image_it_is(card: Card) -> None:
    made = json.dumps(fhir.resource([SEEN, FAILED], card))
    assert "MARKER" not in made
    assert "subject" not in made
